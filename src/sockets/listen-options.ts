import { builtins } from "../platform/builtins.js";
import { readAdapter, type ConnectionAdapter } from "../connections/adapter.js";
import { HttpConnections } from "../connections/http-connections.js";
import { speaksHttp1 } from "../connections/http1.js";
import { Server } from "node:net";
import { type RequestedAddress, absolutePath } from "../address.js";
import { HandoverError } from "../errors.js";
import { abortSignal, flag, refuseUnknown, requireOwnName, text, wrongOption } from "../util/validation.js";

/** Options of `listen()`: those of Node's `server.listen()`, and `name`, `mode` and `connections`. */
export interface ListenOptions {
  /** 0 for a free port, which every later generation inherits. */
  port?: number | string;
  /** Default: every address, IPv6 and IPv4. */
  host?: string;
  /** The path of a Unix socket, relative to the working directory. A path that starts with NUL is abstract. */
  path?: string;
  /** Connections that may wait to be accepted. Default 511. */
  backlog?: number;
  ipv6Only?: boolean;
  /** Accepted and ignored: it has a meaning in a cluster only, where handover does not run. */
  exclusive?: boolean;
  /** Every user may read from the Unix socket. */
  readableAll?: boolean;
  /** Every user may write to the Unix socket. */
  writableAll?: boolean;
  /** The mode of the Unix socket, set before it is bound. Default: by the umask. */
  mode?: number;
  /** The name by which the next process inherits the listener. Default: its address. */
  name?: string;
  /** Closes the server when it is aborted. */
  signal?: AbortSignal;
  /**
   * The server emits `listening` as soon as it has its address, and not first when it accepts: for a program that waits for that
   * event before it calls `ready()`. Default false.
   */
  early?: boolean;
  /**
   * How the connections move to the next process: by an adapter, by `http()` together with a state of the program, or, if
   * false, not at all. HTTP/1.1 has an adapter of its own.
   */
  connections?: ConnectionAdapter | HttpConnections | false;
  /** Of a TLS server, `false`: its connections do not move, and their keys stay in this process. Default true. */
  tls?: boolean;
}

/** Options of `bind()`. */
export interface BindOptions {
  /** 0, the default, for a free port, which every later generation inherits. */
  port?: number | string;
  /** Default: every address of the socket's family. */
  address?: string;
  exclusive?: boolean;
  /** The name by which the next process inherits the socket. Default: its address. */
  name?: string;
  /** The socket emits `listening` as soon as it has its address, and not first when it reads. Default false. */
  early?: boolean;
}

export interface ListenRequest {
  address: RequestedAddress;
  name: string | undefined;
  /** Binds the address, even if a listener of it is inherited. */
  afresh?: boolean;
  backlog: number;
  mode: number;
  signal: AbortSignal | undefined;
  early?: boolean;
  connections?: ConnectionAdapter | HttpConnections | false | undefined;
  tls?: boolean;
}

/**
 * Refuses an application of a framework: it would listen on a server of its own, which handover does not know.
 *
 * @throws {HandoverError} `ERR_OPTION`, which says where the application's server is
 */
export function requireServer(server: unknown): void {
  if (server instanceof Server) return;
  const advice = adviceFor(server);
  throw wrongKind("listen() takes a net.Server", server, advice && `; give it ${advice}`);
}

/** The wrong advice is worse than none: a server that is made of Fastify's application answers no request. */
function adviceFor(given: unknown): string {
  const isApplication = (typeof given === "object" && given !== null) || typeof given === "function";
  const app: Application = isApplication ? given : {};
  if (app.server instanceof Server) return "app.server, after await app.ready()";
  if (app.listener instanceof Server) return "app.listener";
  if (typeof app.getHttpServer === "function") return "app.getHttpServer(), after await app.init()";
  if (typeof app.callback === "function") return "http.createServer(app.callback())";
  if (typeof app.fetch === "function")
    return "a server that an adapter makes of app.fetch, such as createAdaptorServer() of @hono/node-server";
  return typeof given === "function" ? "http.createServer(app)" : "";
}

/** Where the applications of frameworks have their server, or what one is made of. */
interface Application {
  /** Of Fastify. */
  server?: unknown;
  /** Of hapi. */
  listener?: unknown;
  /** Of NestJS. */
  getHttpServer?: unknown;
  /** Of Koa. */
  callback?: unknown;
  /** Of Hono, and of others that take a request of the Fetch API. */
  fetch?: unknown;
}

/** @throws {HandoverError} `ERR_OPTION` */
export function requireSocket(socket: unknown): void {
  if (!(socket instanceof builtins.dgram.Socket)) throw wrongKind("bind() takes a dgram.Socket", socket);
}

function wrongKind(expected: string, value: unknown, advice = ""): HandoverError {
  return new HandoverError(
    "ERR_OPTION",
    `${expected}, not ${builtins.util.inspect(value, { depth: -1 })}${advice}`,
  );
}

/**
 * Reads the arguments of `listen()`.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function readListenOptions(
  server: Server,
  options: ListenOptions | number | string,
  host: string | undefined,
  directory: string,
): ListenRequest {
  const given = typeof options === "object" ? options : optionsOf(options, host);
  refuseUnknown("listen()", given, KNOWN);
  const backlog = given.backlog ?? 511;
  if (!Number.isInteger(backlog) || backlog < 0) throw wrongOption("backlog", "a whole number", backlog);
  return {
    address: requestedAddress(given, directory),
    name: readName(given.name),
    backlog,
    mode: modeOf(given),
    signal: abortSignal(given.signal),
    early: flag("early", given.early ?? false),
    tls: flag("tls", given.tls ?? true),
    connections: connectionsOf(given.connections, server),
  };
}

/** Reads the arguments of `bind()`. */
export function readBindOptions(
  options: BindOptions | number | string,
  address: string | undefined,
  socket: { type: string; ipv6Only: boolean },
): ListenRequest {
  const given =
    typeof options === "object" ? options : { port: options, ...(address === undefined ? {} : { address }) };
  refuseUnknown("bind()", given, ["port", "address", "exclusive", "name", "early"]);
  const any = socket.type === "udp4" ? "0.0.0.0" : "::";
  const host = text("address", given.address) ?? any;
  return {
    address: { kind: "udp", host, port: portOf(given.port ?? 0), ipv6Only: socket.ipv6Only },
    name: readName(given.name),
    backlog: 0,
    mode: -1,
    signal: undefined,
    early: flag("early", given.early ?? false),
  };
}

const KNOWN = [
  "port",
  "host",
  "path",
  "backlog",
  "ipv6Only",
  "exclusive",
  "readableAll",
  "writableAll",
  "mode",
  "name",
  "signal",
  "early",
  "connections",
  "tls",
] satisfies (keyof ListenOptions)[];

/** As in Node a string may be a path; one without a slash is probably a mistyped port. */
function optionsOf(portOrPath: number | string, host: string | undefined): ListenOptions {
  if (typeof portOrPath === "string" && portOrPath.includes("/")) return { path: portOrPath };
  return { port: portOrPath, ...(host === undefined ? {} : { host }) };
}

function requestedAddress(given: ListenOptions, directory: string): RequestedAddress {
  const path = text("path", given.path);
  if (path !== undefined) {
    if (given.port !== undefined) throw wrongOption("port", "left out where there is a path", given.port);
    return { kind: "unix", path: absolutePath(path, directory) };
  }
  const host = text("host", given.host) ?? "*";
  return { kind: "tcp", host, port: portOf(given.port), ipv6Only: given.ipv6Only ?? false };
}

/** A string of digits is a port too, as environment variables are strings. */
function portOf(value: unknown): number {
  const port = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
  if (Number.isInteger(port) && (port as number) >= 0 && (port as number) <= 65_535) return port as number;
  throw wrongOption("port", "a whole number from 0 to 65535", value);
}

function modeOf({ mode, readableAll, writableAll, path }: ListenOptions): number {
  if (mode === undefined && !readableAll && !writableAll) return -1;
  if (path === undefined) throw wrongOption("mode", "left out where there is no path", mode);
  if (mode === undefined) return 0o700 | (readableAll ? 0o444 : 0) | (writableAll ? 0o222 : 0);
  if (Number.isInteger(mode) && mode >= 0 && mode <= 0o777) return mode;
  throw wrongOption("mode", "a file mode from 0 to 0o777", mode);
}

function connectionsOf(value: ListenOptions["connections"], server: Server): ListenRequest["connections"] {
  if (value === undefined || value === false) return value;
  if (!(value instanceof HttpConnections)) return readAdapter(value);
  if (speaksHttp1(server)) return value;
  throw wrongOption("connections", "an adapter, as http() is for servers of HTTP/1.1", value);
}

function readName(value: unknown): string | undefined {
  return value === undefined ? undefined : requireName(value);
}

/**
 * Checks the name by which the next process inherits a descriptor. It is bounded, as it has to fit into a message.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function requireName(value: unknown): string {
  if (typeof value !== "string" || value === "" || value.length > 256)
    throw wrongOption("name", "a string of 1 to 256 characters", value);
  requireOwnName("the name of a descriptor", value);
  return value;
}
