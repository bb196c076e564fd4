import type { Socket as DatagramSocket } from "node:dgram";
import { Server as HttpServer } from "node:http";
import { Server, type Socket } from "node:net";
import { HandoverError } from "./errors.js";

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

/**
 * Closes a server's listener and nothing else: `http.Server.close()` would also destroy idle connections, to
 * which a request may be on its way. The server emits `close` only after {@link allowClose}.
 */
export function closeListener(server: Server): void {
  requireFunction(server, "_emitCloseIfDrained");
  Object.defineProperty(server, "_emitCloseIfDrained", {
    value: () => {},
    configurable: true,
    writable: true,
  });
  Server.prototype.close.call(server);
}

export function allowClose(server: Server): void {
  delete (server as { _emitCloseIfDrained?: unknown })._emitCloseIfDrained;
}

/**
 * The connections that Node itself thinks idle: those which the documented `closeIdleConnections()` would
 * destroy, found out by letting it.
 */
export function idleByNode(server: Server, connections: Iterable<Socket>): Set<Socket> {
  const idle = new Set<Socket>();
  const spied = [...connections];
  for (const socket of spied) {
    socket.destroy = () => {
      idle.add(socket);
      return socket;
    };
  }
  try {
    // Of other servers, too: an HTTP/2 server that allows HTTP/1.1 keeps the same list, but not the method.
    HttpServer.prototype.closeIdleConnections.call(server as HttpServer);
  } finally {
    for (const socket of spied) delete (socket as { destroy?: unknown }).destroy;
  }
  return idle;
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
