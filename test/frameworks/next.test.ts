import { AUTO, testUpgrades } from "./application.js";
import { eventStream, httpClients, postText } from "./http-clients.js";

const clients = { ...httpClients(undefined, () => postText("/say")), ...eventStream() };
const HANDOVER = "../../../../bin/handover.js";
const NEXT = "../../node_modules/next/dist/bin/next";

testUpgrades("a custom server of next", { directory: "next", args: ["server.js"], clients });
testUpgrades("next start", {
  directory: "next",
  args: [...AUTO, NEXT, "start"],
  clients,
  exits: 143, // without handover, too
});
testUpgrades("next start under handover run", {
  directory: "next",
  args: [HANDOVER, "run", "--auto", "--workers", "1", "--probation", "6s", "--", "next", "start"],
  clients,
});
