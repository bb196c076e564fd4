import { testUpgrades } from "./application.js";
import { httpClients } from "./http-clients.js";
import { LineClient } from "./line-client.js";

testUpgrades("a port with two protocols", {
  directory: "multiplexer",
  args: ["server.js"],
  clients: {
    ...httpClients(),
    "connections of a line": (port) => new LineClient(port),
  },
});
