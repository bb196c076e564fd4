import { AUTO, testUpgrades } from "./application.js";
import { eventStream, httpClients, postJson, word } from "./http-clients.js";

const say = () => {
  const text = word();
  return postJson("/", { word: text }, text);
};
const clients = { ...httpClients(undefined, say), ...eventStream() };
/** The programs call `enableShutdownHooks()`, which closes the application at SIGHUP, too. */
const env = { HANDOVER_UPGRADE_SIGNAL: "false" };

testUpgrades("nest on express, by tsc", { directory: "nest", args: ["dist/server.js"], clients });
testUpgrades("nest on express, by tsc, unchanged", {
  directory: "nest",
  args: [...AUTO, "dist/plain.js"],
  clients,
  env,
});
testUpgrades("nest on fastify, by tsc", { directory: "nest", args: ["dist/server-fastify.js"], clients });
testUpgrades("nest on fastify, by tsc, unchanged", {
  directory: "nest",
  args: [...AUTO, "dist/plain-fastify.js"],
  clients,
  env,
});
