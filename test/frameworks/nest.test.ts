import { AUTO, testUpgrades } from "./application.js";
import { eventStream, httpClients, postJson, word } from "./http-clients.js";

const say = () => {
  const text = word();
  return postJson("/", { word: text }, text);
};
const clients = { ...httpClients(undefined, say), ...eventStream() };

testUpgrades("nest on express, by tsc", { directory: "nest", args: ["dist/server.js"], clients });
testUpgrades("nest on express, by tsc, unchanged", {
  directory: "nest",
  args: [...AUTO, "dist/plain.js"],
  clients,
});
testUpgrades("nest on fastify, by tsc", { directory: "nest", args: ["dist/server-fastify.js"], clients });
testUpgrades("nest on fastify, by tsc, unchanged", {
  directory: "nest",
  args: [...AUTO, "dist/plain-fastify.js"],
  clients,
});
