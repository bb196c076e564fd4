import type { Socket as DatagramSocket } from "node:dgram";
import { Server as HttpServer, type IncomingMessage } from "node:http";
import { Server, type Socket } from "node:net";
import { HandoverError } from "../errors.js";
import { shadow } from "../shadow.js";

/*
 * Everything of Node that is used here and is not documented, in one place: tested on Node 20, 22 and 24, and
 * guarded, so that a Node without it says so instead of failing later and elsewhere.
 */

/** The descriptor of a connection. */
export function descriptorOf(socket: Socket): number {
  const fd = (socket as unknown as { _handle?: { fd?: unknown } })._handle?.fd;
  if (typeof fd === "number" && fd >= 0) return fd;
  throw new HandoverError("ERR_DESCRIPTOR", "cannot find the descriptor of a connection: it is not open");
}

/** Whether {@link closeListener} will work is to be known before a successor has been told to go. */
export function requireClosable(server: Server): void {
  requireFunction(server, "_emitCloseIfDrained");
}

/**
 * Closes a server's listener and nothing else: `http.Server.close()` would also destroy idle connections, to
 * which a request may be on its way. The server emits `close` only after {@link allowClose}.
 */
export function closeListener(server: Server): void {
  shadow(server as Server & { _emitCloseIfDrained(): void }, "_emitCloseIfDrained", () => {});
  Server.prototype.close.call(server);
}

export function allowClose(server: Server): void {
  delete (server as { _emitCloseIfDrained?: unknown })._emitCloseIfDrained;
}

/**
 * The connections of a server that Node itself thinks idle: those which the documented
 * `closeIdleConnections()` would destroy, found out by letting it.
 *
 * Asking takes as long as there are connections, 10 ms for 10,000. So an answer is kept while it is exact, which is as
 * long as nobody has read from the connection since; and asking again takes at most a part of the time,
 * {@link ASKING}. Meanwhile a connection that has spoken is not called idle, and is asked for later.
 */
export class IdleList {
  readonly #server: Server;
  /** The idle ones, with the bytes that had been read from each when it was found to be. */
  readonly #idle = new Map<Socket, number>();
  #nextAsk = 0;
  #collecting = false;

  constructor(server: Server) {
    this.#server = server;
  }

  /** From now on the connection is asked for. Every one of the server's must be, or asking would close it. */
  add(socket: Socket): void {
    socket.destroy = (error?: Error) => {
      if (!this.#collecting) return Object.getPrototypeOf(socket).destroy.call(socket, error) as Socket;
      this.#idle.set(socket, socket.bytesRead);
      return socket;
    };
    socket.once("close", () => this.#idle.delete(socket));
  }

  has(socket: Socket): boolean {
    if (this.#idle.get(socket) === socket.bytesRead) return true;
    const now = performance.now();
    if (now < this.#nextAsk) return false;
    this.#ask();
    this.#nextAsk = now + (performance.now() - now) / ASKING;
    return this.#idle.has(socket);
  }

  #ask(): void {
    this.#idle.clear();
    this.#collecting = true;
    try {
      // Of other servers, too: an HTTP/2 server that allows HTTP/1.1 keeps the same list, but not the method.
      HttpServer.prototype.closeIdleConnections.call(this.#server as HttpServer);
    } finally {
      this.#collecting = false;
    }
  }
}

/** A part of the time; what is left is for the program. */
const ASKING = 0.03;

/** Stops reading at once: what arrives stays in the kernel, and can be read through a duplicate. */
export function stopReading(socket: Socket): void {
  // A stream that is flowing would start again by itself.
  socket._read = () => {};
  handleOf(socket).readStop();
}

/** Goes on reading. */
export function startReading(socket: Socket): void {
  delete (socket as { _read?: unknown })._read;
  handleOf(socket).readStart();
}

/** Makes a connection count as one that the server has accepted. */
export function countConnection(server: Server, change: 1 | -1): void {
  const counted = server as unknown as { _connections: number; _emitCloseIfDrained(): void };
  counted._connections += change;
  if (change < 0) counted._emitCloseIfDrained();
}

/** What an accepted connection has: at its end it is no longer counted. */
export function joinServer(server: Server, socket: Socket): void {
  Object.assign(socket, { server, _server: server });
}

/** Whether a server's connections stay writable when their client has ended. */
export function allowsHalfOpen(server: Server): boolean {
  return (server as unknown as { allowHalfOpen?: boolean }).allowHalfOpen === true;
}

/** Gives a request its headers as the parser does: by Node's rules for those that come more than once. */
export function setHeaders(request: IncomingMessage, rawHeaders: string[]): void {
  requireFunction(request, "_addHeaderLines");
  const parsed = request as unknown as {
    joinDuplicateHeaders: unknown;
    _addHeaderLines(headers: string[], n: number): void;
  };
  const { server } = request.socket as unknown as { server?: { joinDuplicateHeaders?: boolean } };
  parsed.joinDuplicateHeaders = server?.joinDuplicateHeaders;
  parsed._addHeaderLines(rawHeaders, rawHeaders.length);
}

function handleOf(socket: Socket): { readStop(): void; readStart(): void } {
  const handle = (socket as unknown as { _handle?: { readStop(): void; readStart(): void } })._handle;
  requireFunction(handle, "readStop");
  return handle!;
}

/** Bytes that the kernel has not taken yet. */
export function writeQueueSize(socket: Socket): number {
  return (socket as unknown as { _handle?: { writeQueueSize?: number } | null })._handle?.writeQueueSize ?? 0;
}

/** Stops or starts the reading of a bound datagram socket; what arrives meanwhile waits in the kernel. */
export function setReceiving(socket: DatagramSocket, on: boolean): void {
  const handle = datagramState(socket).handle;
  const name = on ? "recvStart" : "recvStop";
  requireFunction(handle, name);
  handle![name]();
}

/** What was said to `dgram.createSocket()`. */
export function datagramOptions(socket: DatagramSocket): { ipv6Only: boolean } {
  return { ipv6Only: datagramState(socket).ipv6Only === true };
}

/** Whether it can still be bound: it has no address, has not sent anything, and is not closed. */
export function isUnbound(socket: DatagramSocket): boolean {
  const { handle, bindState } = datagramState(socket);
  return handle !== null && bindState === 0;
}

interface DatagramState {
  handle: { recvStart(): void; recvStop(): void } | null;
  /** Unbound, binding, bound. */
  bindState: number;
  ipv6Only?: boolean;
}

function datagramState(socket: DatagramSocket): DatagramState {
  const symbol = Object.getOwnPropertySymbols(socket).find((one) => one.description === "state symbol");
  const state = symbol && (socket as unknown as Record<symbol, unknown>)[symbol];
  if (typeof state === "object" && state !== null && "bindState" in state) return state as DatagramState;
  throw unknownNode("the state of a datagram socket");
}

function requireFunction(object: unknown, name: string): void {
  if (typeof (object as Record<string, unknown> | null)?.[name] !== "function") throw unknownNode(name);
}

function unknownNode(what: string): HandoverError {
  return new HandoverError("ERR_NOT_SUPPORTED", `Node ${process.version} does not have ${what} where it was`);
}
