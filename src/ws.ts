/**
 * WebSockets of the package `ws` move to the next process.
 *
 * @module
 */
import { IncomingMessage, type Server as HttpServer } from "node:http";
import type { Socket } from "node:net";
import type { ConnectionAdapter } from "./connections/adapter.js";
import { HandoverError } from "./errors.js";
import { setHeaders } from "./internals.js";
import { markMoved, isQuiet, type WebSocketLike } from "./ws-internals.js";

export type { WebSocketLike } from "./ws-internals.js";

/** What is needed of a `WebSocketServer` of `ws` 8. */
export interface WebSocketServerLike<W extends WebSocketLike> {
  handleUpgrade(
    request: IncomingMessage,
    socket: unknown,
    head: Buffer,
    callback: (ws: W, request: IncomingMessage) => void,
  ): void;
}

export interface WebSocketOptions<W extends WebSocketLike> {
  /** Of what `save` returns. A successor with another version refuses, and the connection stays until it is closed. */
  version: number;
  /** The program's state of one connection, as JSON. */
  save?(ws: W): unknown;
  /** Puts it back, after the program's own `connection` code has run. */
  restore?(ws: W, state: unknown): void;
}

/** What the request of a connection that has moved has as its property `handover`. */
export interface HandedOver {
  /** What `save` returned in the old process. */
  state: unknown;
}

/**
 * Lets the connections of a `WebSocketServer` move. In the next process their handshake is replayed: the program's
 * own `upgrade` and `connection` code runs again, with a request that has the url, headers and remote address it had
 * and says `request.handover`. In the old one `close` is emitted, with the code 1012 and the reason `handed over`.
 *
 * A connection moves between two frames. One whose compression has a live context cannot; it is closed with 1012
 * late in the drain.
 */
export function webSockets<W extends WebSocketLike>(
  upg: { addConnections(adapter: ConnectionAdapter): void },
  wss: WebSocketServerLike<W>,
  options: WebSocketOptions<W>,
): void {
  const connections = new WeakMap<object, { ws: W; request: IncomingMessage }>();
  const handleUpgrade = wss.handleUpgrade.bind(wss);
  wss.handleUpgrade = (request, socket, head, callback) => {
    handleUpgrade(request, socket, head, (ws, again) => {
      const replay = replayed.get(request);
      if (replay !== undefined && !replay.accept(ws)) return;
      connections.set(socket as object, { ws, request });
      callback(ws, again);
      if (replay !== undefined) options.restore?.(ws, replay.state.state);
    });
  };
  upg.addConnections({
    name: "websocket",
    version: options.version,
    idle: (socket) => {
      const connection = connections.get(socket);
      return connection !== undefined && isQuiet(connection.ws, socket);
    },
    freeze: (socket) => {
      const { ws, request } = connections.get(socket)!;
      return freeze(ws, request, options.save?.(ws));
    },
    thaw: (socket, state, server) => replay(socket, state as State, server as HttpServer),
    moved: (socket) => markMoved(connections.get(socket)!.ws),
    end: (socket) => {
      const connection = connections.get(socket);
      connection?.ws.close(1012, "service restart");
      return connection !== undefined;
    },
  });
}

/** What travels with a connection. */
interface State {
  method: string;
  url: string;
  httpVersion: string;
  rawHeaders: string[];
  /** What was agreed on: the replay must come to the same. */
  protocol: string;
  extensions: string;
  state: unknown;
}

function freeze({ protocol, extensions }: WebSocketLike, request: IncomingMessage, state: unknown): State {
  const { method = "GET", url = "/", httpVersion, rawHeaders } = request;
  return { method, url, httpVersion, rawHeaders, protocol, extensions, state: state ?? null };
}

/** Handshakes that are being replayed, by their requests. */
const replayed = new WeakMap<IncomingMessage, Replay>();

/** Runs the server's own upgrade code. What rejects it at once refuses the connection: it stays where it was. */
function replay(socket: Socket, state: State, server: HttpServer): void {
  if (server.listenerCount("upgrade") === 0) throw rejected("the server upgrades nothing");
  const request = requestOf(socket, state);
  const handshake = new Replay(socket, state);
  replayed.set(request, handshake);
  server.emit("upgrade", request, socket, Buffer.alloc(0));
  handshake.settle();
}

/**
 * One replay. The client has its `101 Switching Protocols` already, so the one that the server writes is kept from it.
 * Anything else that is written first is a rejection.
 */
class Replay {
  readonly state: State;
  readonly #socket: Socket;
  #phase: "open" | "accepted" | "rejected" = "open";
  /** Whether a rejection can still leave the connection in the old process. */
  #isEarly = true;

  constructor(socket: Socket, state: State) {
    this.state = state;
    this.#socket = socket;
    socket.write = (chunk: unknown) => this.#intercept(chunk);
    socket.end = (chunk?: unknown) => {
      this.#intercept(chunk);
      return socket;
    };
  }

  /** The server takes it for `ws`. False if it has agreed on something else than before. */
  accept(ws: WebSocketLike): boolean {
    if (ws.protocol === this.state.protocol && ws.extensions === this.state.extensions) return true;
    this.#reject();
    ws.terminate();
    return false;
  }

  /** After the server's code has run; the rest of it may be asynchronous. */
  settle(): void {
    this.#isEarly = false;
    if (this.#phase === "rejected") throw rejected("the server rejects it");
  }

  #intercept(chunk: unknown): boolean {
    this.#restore();
    if (String(chunk).startsWith("HTTP/1.1 101")) this.#phase = "accepted";
    else this.#reject();
    return true;
  }

  /** Too late to leave it in the old process, it is told to come again. */
  #reject(): void {
    this.#phase = "rejected";
    this.#restore();
    if (this.#isEarly) return;
    this.#socket.end(CLOSE_1012);
  }

  #restore(): void {
    delete (this.#socket as Partial<Socket>).write;
    delete (this.#socket as Partial<Socket>).end;
  }
}

/** A close frame of the server's: no mask, two bytes, 1012. */
const CLOSE_1012 = Buffer.from("880203f4", "hex");

function requestOf(socket: Socket, { method, url, httpVersion, rawHeaders, state }: State): IncomingMessage {
  const request = new IncomingMessage(socket);
  const [httpVersionMajor, httpVersionMinor] = httpVersion.split(".").map(Number);
  const handover: HandedOver = { state };
  setHeaders(request, rawHeaders);
  return Object.assign(request, {
    method,
    url,
    httpVersion,
    httpVersionMajor,
    httpVersionMinor,
    upgrade: true,
    complete: true,
    handover,
  });
}

function rejected(why: string): HandoverError {
  return new HandoverError("ERR_REFUSED", `cannot adopt a WebSocket: ${why}`);
}
