import { isRegistered, observeWebSockets } from "../connections/unregistered-web-sockets.js";
import type { Upgrader } from "../upgrader.js";
import { isAgreement, moveWebSockets } from "../websocket/moving.js";
import { webSocketOf } from "../websocket/ws-internals.js";

/**
 * Finds the WebSockets of `ws`, whichever way the program serves them, as a framework or a bundler may hide their server. They
 * stay, and are closed with 1012 late in the drain, unless the program has said that they may move without a saved state.
 *
 * @param move whether it has
 */
export function findWebSockets(upg: Upgrader, move: boolean): void {
  const staying = moveWebSockets(upg, { name: "found-staying-websocket", version: 0, move: false });
  const moving = move ? moveWebSockets(upg, { name: "found-websocket", version: 0, move }) : staying;
  observeWebSockets((request, socket, answer) => {
    // `ws` has made its WebSocket in this turn, and a program that knows of handover has registered it.
    process.nextTick(() => {
      const ws = webSocketOf(socket);
      if (ws === undefined || isRegistered(socket)) return;
      const agreement = answer.split("\r\n").filter(isAgreement);
      // A session of engine.io is opened inside of its WebSocket.
      const mover = /[?&]EIO=\d/.test(request.url ?? "") ? staying : moving;
      if (!mover.add({ ws, socket, request, agreement })) ws.terminate();
    });
  });
}
