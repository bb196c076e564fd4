import type { IncomingMessage, Server as HttpServer } from "node:http";
import type { Socket } from "node:net";
import type { ConnectionAdapter } from "../connections/adapter.js";
import { registerWebSocket } from "../connections/unregistered-web-sockets.js";
import { isHeldOpen } from "../util/attached.js";
import { FrameCutter } from "./frame-cutter.js";
import { hasContext, isOpen, isQuiet, markMoved, type WebSocketLike } from "./ws-internals.js";
import { Replay, type Handshake } from "./replay.js";

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

/** What is spoken on the WebSockets of some servers, and how they move. */
export interface Protocol<W extends WebSocketLike> {
  /** The adapter's. */
  readonly name: string;
  /** Whether they move. */
  readonly move: boolean;
  readonly version: number;
  /** Whether nothing of the protocol is under way. */
  isIdle?(ws: W): boolean;
  save?(ws: W): unknown;
  /** The url with which the handshake is repeated. */
  url?(url: string): string;
  /** Why this process cannot continue from a state, if it cannot. */
  refuse?(state: unknown): string | undefined;
  /** The handshake was repeated; the program does not have the WebSocket yet. */
  accepted?(ws: W, request: IncomingMessage, state: unknown): void;
  /** The program has it. */
  restore?(ws: W, state: unknown): void;
  /** The next process has it. */
  moved?(ws: W): void;
}

/** An open WebSocket, and how it was opened. */
export interface Opened<W extends WebSocketLike> {
  readonly ws: W;
  readonly socket: Socket;
  readonly request: IncomingMessage;
  /** The headers of the answer that chose a subprotocol and a compression, which the client has used since. */
  readonly agreement: string[];
}

/** The WebSockets that speak a protocol. */
interface WebSocketMover<W extends WebSocketLike> {
  /** Adds those of a server. */
  readonly serve: (wss: WebSocketServerLike<W>) => void;
  /** Adds one. False if this process cannot continue from the state that it has moved with. */
  readonly add: (opened: Opened<W>) => boolean;
}

/** Lets WebSockets of a protocol move. */
export function moveWebSockets<W extends WebSocketLike>(
  upg: { addConnections(adapter: ConnectionAdapter): void },
  protocol: Protocol<W>,
): WebSocketMover<W> {
  const { name, move, version } = protocol;
  const connections = new WeakMap<object, Opened<W>>();
  const cutters = new WeakMap<object, FrameCutter>();
  const agreements = new WeakMap<IncomingMessage, string[]>();
  const isIdle = (ws: W, socket: Socket): boolean => isQuiet(ws, socket) && protocol.isIdle?.(ws) !== false;
  upg.addConnections({
    name,
    version,
    idle: (socket) => {
      const connection = connections.get(socket);
      const isPending = cutters.get(socket)?.isPending === true;
      return move && connection !== undefined && !isPending && isIdle(connection.ws, socket);
    },
    quiesce: (socket, rested) => {
      const ws = connections.get(socket)?.ws;
      if (!move || ws === undefined || !isOpen(ws) || hasContext(ws)) return undefined;
      const cutter = new FrameCutter(ws, socket, () => isIdle(ws, socket), rested);
      cutters.set(socket, cutter);
      return () => {
        cutters.delete(socket);
        cutter.stop();
      };
    },
    freeze: (socket): Handshake => {
      const { ws, request, agreement } = connections.get(socket)!;
      const { method = "GET", url = "/", httpVersion, rawHeaders } = request;
      const state = protocol.save?.(ws) ?? null;
      const path = protocol.url?.(url) ?? url;
      return { method, url: path, httpVersion, rawHeaders, agreement, state };
    },
    thaw: (socket, state, server) => Replay.run(socket, state as Handshake, version, server as HttpServer),
    moved: (socket) => {
      const { ws } = connections.get(socket)!;
      markMoved(ws);
      protocol.moved?.(ws);
    },
    close: (socket) => {
      const ws = connections.get(socket)?.ws;
      if (ws === undefined || !isOpen(ws)) return false;
      // It is closed when the unit that it is attached to runs elsewhere.
      if (isHeldOpen(ws)) return true;
      ws.close(1012, "service restart");
      return true;
    },
  });
  const add = (opened: Opened<W>): boolean => {
    const { socket, request, agreement } = opened;
    const replay = Replay.of(request);
    if (replay !== undefined) {
      const why = move ? protocol.refuse?.(replay.state) : "the server has the option move: false";
      const isAccepted = why === undefined ? replay.accept(version, agreement) : replay.refuse(why);
      if (!isAccepted) return false;
    }
    connections.set(socket, opened);
    registerWebSocket(socket);
    return true;
  };
  const serve = (wss: WebSocketServerLike<W>): void => {
    wss.on("headers", (headers, request) => agreements.set(request, headers.filter(isAgreement)));
    const handleUpgrade = wss.handleUpgrade.bind(wss);
    wss.handleUpgrade = (request, socket, head, callback) => {
      handleUpgrade(request, socket, head, (ws, again) => {
        const replay = Replay.of(request);
        const agreement = agreements.get(request)!;
        if (!add({ ws, socket: socket as Socket, request, agreement })) return ws.terminate();
        if (replay !== undefined) protocol.accepted?.(ws, request, replay.state);
        callback(ws, again);
        if (replay !== undefined) protocol.restore?.(ws, replay.state);
      });
    };
  };
  return { serve, add };
}

/** Whether a header of the answer chose a subprotocol or a compression, which the client has used since. */
export function isAgreement(header: string): boolean {
  return /^sec-websocket-(protocol|extensions):/i.test(header);
}
