import { AUTO, MOVES_WEB_SOCKETS, testUpgrades } from "./application.js";
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
  // In the second half of this time its WebSockets are closed with 1012.
  env: { HANDOVER_DRAIN_TIMEOUT: "2000" },
});
testUpgrades("ws, unchanged, with WebSockets that may move", {
  directory: "ws",
  args: [...AUTO, "plain.js"],
  clients: { ...httpClients(), ...keptWebSocket() },
  env: MOVES_WEB_SOCKETS,
});
testUpgrades("socket.io 4", {
  directory: "socket.io",
  args: ["server.js"],
  clients: { ...httpClients(), ...socketIo() },
});
testUpgrades("socket.io 4, unchanged, with clients that may move", {
  directory: "socket.io",
  args: [...AUTO, "plain.js"],
  clients: { ...httpClients(), ...socketIo() },
  env: MOVES_WEB_SOCKETS,
});
