import { AUTO, DRAINS_SOON, testUpgrades } from "./application.js";
import { eventStream, httpClients } from "./http-clients.js";
import { keptWebSocket, reconnectingWebSocket } from "./web-socket-clients.js";

const clients = { ...httpClients(), ...eventStream() };

testUpgrades("fastify 5 with @fastify/websocket", {
  directory: "fastify",
  args: ["server.js"],
  clients: { ...clients, ...keptWebSocket("/socket") },
});
testUpgrades("fastify 5 with @fastify/websocket, unchanged", {
  directory: "fastify",
  args: [...AUTO, "plain.js"],
  clients: { ...clients, ...reconnectingWebSocket("/socket") },
  ...DRAINS_SOON,
});
