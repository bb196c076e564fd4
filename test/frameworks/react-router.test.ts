import { AUTO, testUpgrades } from "./application.js";
import { eventStream, httpClients, postText } from "./http-clients.js";

const clients = { ...httpClients(undefined, () => postText("/say")), ...eventStream() };
const SERVE = "../../node_modules/@react-router/serve/bin.js";

testUpgrades("react-router-serve", {
  directory: "react-router",
  args: [...AUTO, SERVE, "build/server/index.js"],
  clients,
});
testUpgrades("react-router with a server of its own", {
  directory: "react-router",
  args: ["server.js"],
  clients,
});
