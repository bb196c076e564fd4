import type { Socket as DatagramSocket } from "node:dgram";
import { hasSubscribers } from "node:diagnostics_channel";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Server, Socket } from "node:net";
import { HandoverError } from "../errors.js";
import { builtins } from "./builtins.js";

/*
 * Every undocumented member of Node that is used, in one place. They are tested on Node 20, 22 and 24, and guarded: a Node
 * without one of them is refused at once, and does not fail later and elsewhere.
 */

/**
 * Whether this is the main thread. `node:worker_threads` says so, too, but to load it would take a fiftieth of the time in
 * which Node starts. In a worker thread the functions that change the whole process are marked.
 */
export function isMainThread(): boolean {
  return (process.abort as { disabled?: boolean }).disabled !== true;
}

/** The descriptor of a connection. */
export function descriptorOf(socket: Socket): number {
  const fd = (socket as unknown as { _handle?: { fd?: unknown } })._handle?.fd;
  if (typeof fd === "number" && fd >= 0) return fd;
  throw new HandoverError("ERR_DESCRIPTOR", "cannot find the descriptor of a connection: it is not open");
}

/**
 * Whether a server accepts in this process: in a worker of `node:cluster` its primary may do that. Or whether a connection is one of
 * the system, and no other stream.
 */
export function hasDescriptor(socket: Server | Socket): boolean {
  const fd = (socket as unknown as { _handle?: { fd?: unknown } })._handle?.fd;
  return typeof fd === "number" && fd >= 0;
}

/**
 * Checks that {@link closeListener} will work: after the commit it is too late to find out.
 *
 * @throws {HandoverError} `ERR_NOT_SUPPORTED`
 */
export function requireClosable(server: Server): void {
  requireFunction(server, "_emitCloseIfDrained");
}

/**
 * Closes a server's listener and nothing else: `http.Server.close()` would also destroy idle connections, to which a
 * request may be on its way. The server emits `close` only after {@link allowClose}.
 */
export function closeListener(server: Server): void {
  overrideMember(server as Server & { _emitCloseIfDrained(): void }, "_emitCloseIfDrained", () => {});
  Server.prototype.close.call(server);
}

export function allowClose(server: Server): void {
  delete (server as { _emitCloseIfDrained?: unknown })._emitCloseIfDrained;
}

/**
 * Lets a server accept on a descriptor, as `server.listen({ fd }, backlog)` does: but that loads `node:cluster`, with all that a
 * program needs to start others, which takes a twentieth of the time of a start.
 */
export function listenOn(server: Server, fd: number, backlog: number): void {
  const own = server as Server & { _listen2?(...args: unknown[]): void };
  // A worker of node:cluster asks its primary. Others may watch listen(), or have replaced it.
  const isWatched =
    process.send !== undefined ||
    hasSubscribers("tracing:net.server.listen:asyncStart") ||
    !hasNodesListen(server);
  if (!isWatched && own._listen2 !== undefined) own._listen2(null, null, null, backlog, fd);
  else server.listen({ fd }, backlog as unknown as () => void);
}

function hasNodesListen({ listen }: { listen: unknown }): boolean {
  return Function.prototype.toString.call(listen).includes("listenInCluster(this, null, null, null,");
}

/** Stops reading at once: bytes that arrive stay in the kernel, and can be read through a duplicate. */
export function stopReading(socket: Socket): void {
  // A stream that is flowing would start again by itself.
  socket._read = NOTHING;
  pauseHandle(socket);
}

/** Stops reading at once, until the stream or {@link startReading} starts again. */
export function pauseHandle(socket: Socket): void {
  handleOf(socket).readStop();
}

/** The same for all: sockets of thousands of shapes would make the code of each slow. */
const NOTHING = (): void => {};

/** Reads again. */
export function startReading(socket: Socket): void {
  delete (socket as { _read?: unknown })._read;
  handleOf(socket).readStart();
}

/** Changes the number of connections that the server has accepted. */
export function countConnection(server: Server, change: number): void {
  const counted = server as unknown as { _connections: number; _emitCloseIfDrained(): void };
  counted._connections += change;
  if (change < 0) counted._emitCloseIfDrained();
}

/** Makes a socket one of the server's: its end lowers the number of connections. */
export function joinServer(server: Server, socket: Socket): void {
  Object.assign(socket, { server, _server: server });
}

/**
 * Undoes {@link joinServer}, and the same of accepted sockets: their ends do not lower the number again. HTTP forgets them, too:
 * `server.close()` would close each of thousands in one turn.
 */
export function leaveServer(server: Server, sockets: readonly Socket[]): void {
  let count = 0;
  for (const socket of sockets) {
    const joined = socket as unknown as { _server: Server | null } & HttpSocket;
    if (joined._server === server) count++;
    else if (joined._server != null) countConnection(joined._server, -1);
    joined._server = null;
    joined.parser?.remove?.();
  }
  if (count > 0) countConnection(server, -count);
}

/** The server that accepted a connection; undefined for one that a program has made. */
export function acceptedBy(socket: Socket): Server | undefined {
  return (socket as unknown as { _server?: Server })._server;
}

/** Node's own listener of `connection`, by which an HTTP server gives a connection to its parser. */
export function parserListener(): unknown {
  return (listener ??= new builtins.http.Server().listeners("connection")[0]);
}

let listener: unknown;

interface HttpSocket {
  _httpMessage?: ServerResponse | null;
  parser?: { incoming: IncomingMessage | null; socket: Socket; remove?(): void } | null;
  server?: Server;
}

/** The response of HTTP/1.1 that a connection sends now, or next. Later ones of pipelined requests wait behind it. */
export function responseOf(socket: Socket): ServerResponse | undefined {
  return (socket as HttpSocket)._httpMessage ?? undefined;
}

/** The newest request that was received on a connection of HTTP/1.1, as long as it is not answered. */
export function newestRequest(socket: Socket): IncomingMessage | undefined {
  return (socket as HttpSocket).parser?.incoming ?? undefined;
}

/** Whether a server's parser of HTTP/1.1 reads a connection. */
export function isParsedBy(server: Server, socket: Socket): boolean {
  const { parser, server: last } = socket as HttpSocket;
  return parser?.socket === socket && last === server;
}

/**
 * The connections that a server's parser of HTTP/1.1 reads: `idle`, on which no request is partly received (responses may be
 * on their way), or `active`, the others, also those on which nothing was received. Undefined for a server that has never
 * listened.
 */
export function parsedConnections(server: Server, which: "idle" | "active"): Socket[] | undefined {
  const name = Object.getOwnPropertySymbols(server).find((one) => one.description === CONNECTIONS);
  if (name === undefined) return undefined;
  const list = (server as unknown as Record<symbol, Record<typeof which, () => { socket: Socket }[]>>)[name];
  requireFunction(list, which);
  return list![which]().map(({ socket }) => socket);
}

const CONNECTIONS = "http.server.connections";

/** When the last activity was on a socket that has a timeout, in ms of `performance.now()`; undefined without one. */
export function activeAt(socket: Socket): number | undefined {
  const timer = timerOf(socket);
  if (timer == null) return undefined;
  if (timerOrigin === undefined) {
    const now = setTimeout(() => {}, 1) as unknown as Timer;
    timerOrigin = performance.now() - now._idleStart;
    clearTimeout(now as unknown as NodeJS.Timeout);
  }
  return timerOrigin + timer._idleStart;
}

/**
 * Keeps the timeout of a socket from ending, until `setTimeout()` begins it again. That could also clear it, but to take thousands
 * out of Node's lists takes a tenth of a move.
 */
export function stopTimeout(socket: Socket): void {
  const timer = timerOf(socket);
  if (timer != null) timer._onTimeout = NOTHING;
}

function timerOf(socket: Socket): Timer | null | undefined {
  timerSymbol ??= symbolOf(new Socket(), "timeout");
  return (socket as unknown as Record<symbol, Timer | null>)[timerSymbol];
}

interface Timer {
  /** ms of the clock of timers. */
  _idleStart: number;
  _onTimeout: () => void;
}

let timerSymbol: symbol | undefined;

/** When the clock of timers began, in ms of `performance.now()`. */
let timerOrigin: number | undefined;

function symbolOf(object: object, description: string): symbol {
  const symbol = Object.getOwnPropertySymbols(object).find((one) => one.description === description);
  if (symbol === undefined) throw unknownNode(description);
  return symbol;
}

/** Whether a server's connections stay writable when their client has ended. */
export function allowsHalfOpen(server: Server): boolean {
  return (server as unknown as { allowHalfOpen?: boolean }).allowHalfOpen === true;
}

/** Gives a request its headers as the parser does: by Node's rules for a header that is repeated. */
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

/** Written bytes that the kernel has not accepted yet. */
export function writeQueueSize(socket: Socket): number {
  return (socket as unknown as { _handle?: { writeQueueSize?: number } | null })._handle?.writeQueueSize ?? 0;
}

/** Stops or starts the reading of a bound datagram socket; datagrams that arrive meanwhile wait in the kernel. */
export function setReceiving(socket: DatagramSocket, on: boolean): void {
  const handle = datagramState(socket).handle;
  const name = on ? "recvStart" : "recvStop";
  requireFunction(handle, name);
  handle![name]();
}

/** The options that `dgram.createSocket()` was called with. */
export function datagramOptions(socket: DatagramSocket): { ipv6Only: boolean; isShared: boolean } {
  const { ipv6Only, reuseAddr, reusePort } = datagramState(socket);
  return { ipv6Only: ipv6Only === true, isShared: Boolean(reuseAddr) || Boolean(reusePort) };
}

/** Whether a socket can be bound: it has no address, has not sent anything, and is not closed. */
export function isUnbound(socket: DatagramSocket): boolean {
  const { handle, bindState } = datagramState(socket);
  return handle !== null && bindState === 0;
}

interface DatagramState {
  handle: { recvStart(): void; recvStop(): void } | null;
  /** Unbound, binding, bound. */
  bindState: number;
  ipv6Only?: boolean;
  reuseAddr?: boolean;
  /** Since Node 22.12. */
  reusePort?: boolean;
}

function datagramState(socket: DatagramSocket): DatagramState {
  const state = (socket as unknown as Record<symbol, unknown>)[symbolOf(socket, "state symbol")];
  if (typeof state === "object" && state !== null && "bindState" in state) return state as DatagramState;
  throw unknownNode("the state of a datagram socket");
}

function requireFunction(object: unknown, name: string): void {
  if (typeof (object as Record<string, unknown> | null)?.[name] !== "function") throw unknownNode(name);
}

function unknownNode(what: string): HandoverError {
  return new HandoverError("ERR_NOT_SUPPORTED", `Node ${process.version} does not have ${what} where it was`);
}

/**
 * Calls `loaded` with what a module of CommonJS exports, whenever one is loaded that `isMeant` recognizes by its name or path. An
 * import of such a module, too, comes through here. A Node without the function loads as ever, and nothing is found.
 */
export function onModuleLoad(isMeant: (name: string) => boolean, loaded: (exports: unknown) => void): void {
  const loader = builtins.module as unknown as { _load?: (...args: unknown[]) => unknown };
  const load = loader._load;
  if (typeof load !== "function") return;
  loader._load = function (this: unknown, ...args) {
    const exports = load.apply(this, args);
    if (typeof args[0] === "string" && isMeant(args[0])) loaded(exports);
    return exports;
  };
}

/** Gives an object a member of its own, which hides the inherited one until it is deleted. */
export function overrideMember<T extends object, K extends keyof T>(object: T, name: K, value: T[K]): void {
  Object.defineProperty(object, name, { value, configurable: true, writable: true, enumerable: false });
}

/**
 * Gives an object a member of its own, until the returned function is called. `wrap` gets the member that was there, bound.
 */
export function wrapMember<T extends object>(
  object: T,
  name: keyof T,
  wrap: (inner: (...args: unknown[]) => unknown) => (...args: unknown[]) => unknown,
): () => void {
  const own = Object.getOwnPropertyDescriptor(object, name);
  const wrapped = wrap((object[name] as (...args: unknown[]) => unknown).bind(object)) as T[keyof T];
  overrideMember(object, name, wrapped);
  return () => {
    // Somebody else has wrapped it since.
    if (object[name] !== wrapped) return;
    if (own === undefined) delete (object as Partial<T>)[name];
    else Object.defineProperty(object, name, own);
  };
}
