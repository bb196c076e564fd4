import { AUTO, MOVES_WEB_SOCKETS, testUpgrades } from "./application.js";
import { eventStream, httpClients } from "./http-clients.js";
import { keptWebSocket } from "./web-socket-clients.js";

const clients = { ...httpClients(), ...eventStream() };

testUpgrades("fastify 5 with @fastify/websocket", {
  directory: "fastify",
  args: ["server.js"],
  clients: { ...clients, ...keptWebSocket("/socket") },
});
testUpgrades("fastify 5 with @fastify/websocket, unchanged", {
  directory: "fastify",
  args: [...AUTO, "plain.js"],
  clients: { ...clients, ...keptWebSocket("/socket") },
  env: MOVES_WEB_SOCKETS,
});
