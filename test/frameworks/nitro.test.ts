import { AUTO, testUpgrades } from "./application.js";
import { eventStream, httpClients } from "./http-clients.js";

testUpgrades("nitro, the server of Nuxt", {
  directory: "nitro",
  args: [...AUTO, ".output/server/index.mjs"],
  clients: { ...httpClients(), ...eventStream() },
});
