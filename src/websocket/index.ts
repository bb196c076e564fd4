/**
 * WebSockets of the package `ws` move to the next process.
 *
 * @module
 */
import type { ConnectionAdapter } from "../connections/adapter.js";
import { atCaller } from "../platform/at-caller.js";
import { functionsOf, refuseUnknown, wrongOption } from "../util/validation.js";
import { moveWebSockets, type WebSocketServerLike } from "./moving.js";
import type { WebSocketLike } from "./ws-internals.js";

export type { WebSocketLike } from "./ws-internals.js";
export type { WebSocketServerLike } from "./moving.js";
export type { Handover } from "../connections/adapter.js";

/** How the connections of a server move. */
export interface WebSocketOptions<W extends WebSocketLike> {
  /** Whether the connections move: true by default. {@link StayingWebSockets} do not. */
  move?: true;
  /** Of the state that `save` returns. A successor with another version refuses the connection: it stays until it is closed. */
  version: number;
  /** Returns the program's state of one connection, as JSON. */
  save?(ws: W): unknown;
  /** Restores the state, after the program's own `connection` code has run. */
  restore?(ws: W, state: unknown): void;
}

/** For a protocol that opens a session inside of its WebSocket: the next process would not know it. */
export interface StayingWebSockets {
  move: false;
}

/**
 * Lets the connections of a `WebSocketServer` move. In the next process their handshake is replayed: the program's own
 * `upgrade` and `connection` code runs again, with a request of the same url, headers and remote address and the property
 * `handover`. In the old process `close` is emitted, with the code 1012 and the reason `moved`.
 *
 * A connection moves between two frames. One whose compression has a live context cannot move; it is closed with 1012
 * late in the drain, and so are all with `{ move: false }`.
 *
 * @throws {HandoverError} `ERR_OPTION`; too late as `addConnections()`
 */
export function webSockets<W extends WebSocketLike>(
  upg: { addConnections(adapter: ConnectionAdapter): void },
  wss: WebSocketServerLike<W>,
  options: WebSocketOptions<W> | StayingWebSockets,
): void {
  atCaller({ webSockets }, "webSockets", () => {
    refuseUnknown("webSockets()", options, ["move", "version", "save", "restore"]);
    const { move = true }: { move?: boolean } = options;
    if (typeof move !== "boolean") throw wrongOption("move", "true or false", move);
    const own: WebSocketOptions<W> = options.move === false ? { version: 0 } : options;
    const { version } = own;
    const functions = functionsOf(own, [], ["save", "restore"]);
    if (typeof wss?.handleUpgrade !== "function" || typeof wss.on !== "function") {
      throw wrongOption("wss", "a WebSocketServer of the package ws", wss);
    }
    moveWebSockets(upg, { name: "websocket", move, version, ...functions }).serve(wss);
  });
}
