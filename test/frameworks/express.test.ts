import { AUTO, testUpgrades } from "./application.js";
import { eventStream, httpClients } from "./http-clients.js";

const clients = { ...httpClients(), ...eventStream() };

testUpgrades("express 5", { directory: "express", args: ["server.js"], clients });
testUpgrades("express 5, unchanged", { directory: "express", args: [...AUTO, "plain.js"], clients });
testUpgrades("express 4 of CommonJS", { directory: "express", args: ["server4.cjs"], clients });
testUpgrades("express 4 of CommonJS, unchanged", {
  directory: "express",
  args: ["--require", "handover/auto", "plain4.cjs"],
  clients,
});
