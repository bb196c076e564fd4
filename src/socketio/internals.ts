import type { IncomingMessage } from "node:http";
import { HandoverError } from "../errors.js";
import type { WebSocketServerLike } from "../websocket/moving.js";
import type { WebSocketLike } from "../websocket/ws-internals.js";

/*
 * Undocumented members of socket.io and engine.io, in one place. All of them exist in 4.6 to 4.8. They are found when the server
 * is registered: a version without them is refused then, and does not fail in an upgrade.
 */

/** A `Server` of socket.io. */
export interface Io {
  readonly engine: Engine;
  readonly encoder: { encode(packet: object): unknown[] };
  readonly _nsps: Map<string, Namespace>;
  readonly parentNsps: Map<unknown, unknown>;
  /** Asks the program whether it makes a namespace. `client.connect()` calls it while it reads a packet. */
  _checkNamespace(name: string, auth: Record<string, unknown>, decided: (namespace: unknown) => void): void;
  path(): string;
  on(event: "new_namespace", listener: (namespace: Namespace) => void): unknown;
}

/** A server of engine.io. */
export interface Engine {
  readonly opts: { wsEngine: new (options: object) => WebSocketServerLike<EngineWebSocket> };
  /** Another one each time the HTTP server listens. */
  readonly ws: WebSocketServerLike<EngineWebSocket> | undefined;
  /** By their ids. */
  readonly clients: Record<string, Connection>;
  generateId(request: IncomingMessage): string | PromiseLike<string>;
  on(event: "connection", listener: (connection: Connection) => void): unknown;
}

export interface EngineWebSocket extends WebSocketLike {
  send(...args: unknown[]): void;
  pause(): void;
  resume(): void;
}

/** A `Socket` of engine.io: the session of one client, over all its namespaces. */
export interface Connection {
  readonly id: string;
  readonly protocol: number;
  readonly readyState: string;
  readonly request: IncomingMessage;
  readonly transport: Transport;
  readonly writeBuffer: readonly unknown[];
  close(discard: boolean): void;
  onClose(reason: string): void;
  sendPacket(type: "ping"): void;
  emit(event: "data", packet: unknown): void;
  on(event: "upgrade", listener: (transport: Transport) => void): unknown;
  once(event: "close", listener: () => void): unknown;
  prependListener(event: "data", listener: () => void): unknown;
}

export interface Transport {
  readonly name: string;
  readonly writable: boolean;
  /** Of the transport `websocket`. */
  readonly socket?: EngineWebSocket;
  /** Of the transport `polling`: a request with data that is being received. */
  readonly dataReq?: unknown;
}

/** One client, of all namespaces. */
export interface Client {
  readonly conn: Connection;
  /** By the names of their namespaces. */
  readonly nsps: Map<string, IoSocket>;
  /** `reconstructor`: a packet whose binary parts have not arrived. */
  readonly decoder: { reconstructor?: unknown };
}

/** A `Socket` of socket.io: a client in one namespace. */
export interface IoSocket {
  id: string;
  /** With `connectionStateRecovery`. */
  pid: string | undefined;
  data: unknown;
  recovered: boolean;
  handshake: { readonly auth?: Record<string, unknown> };
  readonly nsp: Namespace;
  readonly client: Client;
  readonly rooms: Set<string>;
  /** Callbacks that wait for the client's answers. */
  readonly acks: Map<number, unknown>;
  join(rooms: string[]): unknown;
  /** Makes the callback by which the program answers an event. */
  ack(id: number): (...args: unknown[]) => void;
  /** Runs the middlewares of the client's events. The event itself is emitted in a tick after `done`. */
  run(event: unknown[], done: (error?: unknown) => void): void;
  packet(packet: { type: number }, options?: object): void;
}

export interface Namespace {
  readonly name: string;
  readonly adapter: Adapter;
  readonly _preConnectSockets?: Map<string, IoSocket>;
  /** Connects a client. */
  _add(client: Client, auth: Record<string, unknown>, connected: (socket: IoSocket) => void): unknown;
  /** Runs the middlewares. */
  run(socket: IoSocket, next: (error?: unknown) => void): void;
}

/** `sessions` and `packets`: of the adapter that `connectionStateRecovery` has by default. */
export interface Adapter {
  sessions?: Map<string, SavedSession>;
  packets?: { readonly id: string }[];
  persistSession(session: SavedSession): void;
}

/** What is kept of a client that was disconnected. */
export interface SavedSession {
  readonly pid: string;
}

/** Packets of socket.io. */
export const CONNECT = 0;

/** The newest protocol of engine.io; clients of socket.io 2 have an older one. */
export const PROTOCOL = 4;

/** @throws {HandoverError} `ERR_OPTION` */
export function readServer(io: object): Io {
  const { engine, encoder, _nsps: namespaces, parentNsps, path } = io as Partial<Io>;
  if (typeof path !== "function" || !(namespaces instanceof Map)) {
    throw refusal("it must be a Server of socket.io 4");
  }
  if (engine?.ws === undefined) {
    throw refusal("attach it to an HTTP server before, and let it have the transport websocket");
  }
  const root = namespaces.get("/");
  const isKnown =
    typeof engine.opts?.wsEngine === "function" &&
    typeof engine.generateId === "function" &&
    typeof encoder?.encode === "function" &&
    parentNsps instanceof Map &&
    typeof (io as Partial<Io>)._checkNamespace === "function" &&
    typeof root?._add === "function" &&
    typeof root.run === "function";
  if (!isKnown) throw refusal("this version of socket.io is not supported: 4.6 to 4.8 are");
  return io as Io;
}

/** The server itself would fill pages. */
function refusal(why: string): HandoverError {
  return new HandoverError("ERR_OPTION", `socketIo() cannot take this server: ${why}`);
}
