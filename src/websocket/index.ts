/**
 * WebSockets of the package `ws` move to the next process.
 *
 * @module
 */
import type { IncomingMessage, Server as HttpServer } from "node:http";
import type { Socket } from "node:net";
import type { ConnectionAdapter } from "../connections/adapter.js";
import { registerWebSocket } from "../connections/unregistered-web-sockets.js";
import { functionsOf, refuseUnknown, wrongOption } from "../util/validation.js";
import { FrameCutter } from "./frame-cutter.js";
import { hasContext, isOpen, isQuiet, markMoved, type WebSocketLike } from "./ws-internals.js";
import { Replay, type Handshake } from "./replay.js";

export type { WebSocketLike } from "./ws-internals.js";
export type { Handover } from "../connections/adapter.js";

/** The members of a `WebSocketServer` of `ws` 8 that are used. */
export interface WebSocketServerLike<W extends WebSocketLike> {
  handleUpgrade(
    request: IncomingMessage,
    socket: unknown,
    head: Buffer,
    callback: (ws: W, request: IncomingMessage) => void,
  ): void;
  on(event: "headers", listener: (headers: string[], request: IncomingMessage) => void): unknown;
}

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
  refuseUnknown("webSockets()", options, ["move", "version", "save", "restore"]);
  const { move = true }: { move?: boolean } = options;
  if (typeof move !== "boolean") throw wrongOption("move", "true or false", move);
  const own: WebSocketOptions<W> = options.move === false ? { version: 0 } : options;
  const { version } = own;
  const { save, restore } = functionsOf(own, [], ["save", "restore"]);
  if (typeof wss?.handleUpgrade !== "function" || typeof wss.on !== "function") {
    throw wrongOption("wss", "a WebSocketServer of the package ws", wss);
  }
  const connections = new WeakMap<object, { ws: W; request: IncomingMessage }>();
  const cutters = new WeakMap<object, FrameCutter>();
  const agreements = new WeakMap<IncomingMessage, string[]>();
  wss.on("headers", (headers, request) => agreements.set(request, headers.filter(isAgreement)));
  const handleUpgrade = wss.handleUpgrade.bind(wss);
  wss.handleUpgrade = (request, socket, head, callback) => {
    handleUpgrade(request, socket, head, (ws, again) => {
      const replay = Replay.of(request);
      const isAccepted = move ? replay?.accept(version, agreements.get(request)!) : replay?.refuse();
      if (isAccepted === false) return ws.terminate();
      connections.set(socket as object, { ws, request });
      registerWebSocket(socket as Socket);
      callback(ws, again);
      if (replay !== undefined) restore?.(ws, replay.state);
    });
  };
  upg.addConnections({
    name: "websocket",
    version,
    idle: (socket) => {
      const connection = connections.get(socket);
      const isPending = cutters.get(socket)?.isPending === true;
      return move && connection !== undefined && !isPending && isQuiet(connection.ws, socket);
    },
    quiesce: (socket, rested) => {
      const ws = connections.get(socket)?.ws;
      if (!move || ws === undefined || !isOpen(ws) || hasContext(ws)) return undefined;
      const cutter = new FrameCutter(ws, socket, () => isQuiet(ws, socket), rested);
      cutters.set(socket, cutter);
      return () => {
        cutters.delete(socket);
        cutter.stop();
      };
    },
    freeze: (socket): Handshake => {
      const { ws, request } = connections.get(socket)!;
      const { method = "GET", url = "/", httpVersion, rawHeaders } = request;
      const state = save?.(ws) ?? null;
      return { method, url, httpVersion, rawHeaders, agreement: agreements.get(request)!, state };
    },
    thaw: (socket, state, server) => Replay.run(socket, state as Handshake, version, server as HttpServer),
    moved: (socket) => markMoved(connections.get(socket)!.ws),
    close: (socket) => {
      const ws = connections.get(socket)?.ws;
      if (ws === undefined || !isOpen(ws)) return false;
      ws.close(1012, "service restart");
      return true;
    },
  });
}

/** Whether a header of the answer chose a subprotocol or a compression, which the client has used since. */
function isAgreement(header: string): boolean {
  return /^sec-websocket-(protocol|extensions):/i.test(header);
}
