import { AUTO, DRAINS_SOON, testUpgrades } from "./application.js";
import { httpClients } from "./http-clients.js";
import { keptWebSocket, reconnectingWebSocket, socketIo } from "./web-socket-clients.js";

testUpgrades("ws", {
  directory: "ws",
  args: ["server.js"],
  clients: { ...httpClients(), ...keptWebSocket() },
});
testUpgrades("ws, unchanged", {
  directory: "ws",
  args: [...AUTO, "plain.js"],
  clients: { ...httpClients(), ...reconnectingWebSocket() },
  ...DRAINS_SOON,
});
testUpgrades("socket.io 4", {
  directory: "socket.io",
  args: ["server.js"],
  clients: { ...httpClients(), ...socketIo({ keeps: true }) },
});
testUpgrades("socket.io 4, unchanged", {
  directory: "socket.io",
  args: [...AUTO, "plain.js"],
  clients: { ...httpClients(), ...socketIo({ keeps: false }) },
  ...DRAINS_SOON,
});
