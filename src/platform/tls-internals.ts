import { Socket, type Server } from "node:net";
import type { Server as TlsServer, TlsOptions, TLSSocket } from "node:tls";
import { parserListener } from "./node-internals.js";
import { builtins } from "./builtins.js";

/*
 * What Node does not document and TLS needs. The rules of node-internals.ts hold, with one difference: where a member is
 * missing, the records of a connection cannot be counted, and it does not move.
 */

/**
 * Whether this is a Node whose TLS is known: when OpenSSL writes the session tickets, and how many, is tested with each
 * major version. Others than Node have another TLS library.
 */
export function isKnownTls(): boolean {
  const { node, openssl, bun, electron } = process.versions;
  const isNode = bun === undefined && electron === undefined && KNOWN.includes(Number(node.split(".")[0]));
  const hasWrite = typeof (Socket.prototype as { _writeGeneric?: unknown })._writeGeneric === "function";
  return isNode && openssl.startsWith("3.") && hasWrite;
}

const KNOWN = [20, 22, 24];

/** What one stream of a connection has carried. */
interface StreamCounters {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Written bytes that the stream below has not accepted yet. */
  readonly writeQueueSize: number;
}

interface TlsHandle extends StreamCounters {
  readonly _parent?: StreamCounters;
  onread: (this: TlsHandle, bytes?: ArrayBuffer) => unknown;
}

interface Internals {
  readonly _handle?: TlsHandle | null;
  readonly _tlsOptions?: { requestCert?: boolean };
  readonly parser?: Record<number, unknown> | null;
}

/** The plaintext and the ciphertext of a connection; undefined if it has ended, or its records cannot be counted. */
export function secureStreams(
  socket: TLSSocket,
): { plain: StreamCounters; cipher: StreamCounters } | undefined {
  const plain = (socket as unknown as Internals)._handle;
  const cipher = plain?._parent;
  return typeof cipher?.bytesRead === "number" && typeof plain?.bytesRead === "number"
    ? { plain, cipher }
    : undefined;
}

/** Whether the server asks the client for a certificate. */
export function asksForCertificate(socket: TLSSocket): boolean {
  return (socket as unknown as Internals)._tlsOptions?.requestCert === true;
}

/** Counts records. */
export interface RecordCount {
  records: number;
}

/**
 * Counts the records that are read from now on, as long as no HTTP parser reads them: OpenSSL gives out one record at a time,
 * and Node passes each on in one call.
 */
export function countReads(socket: TLSSocket, count: RecordCount): void {
  const handle = (socket as unknown as Internals)._handle!;
  const { onread } = handle;
  handle.onread = function (bytes): unknown {
    if (bytes !== undefined) count.records++;
    return onread.call(this, bytes);
  };
}

/** Counts the records that an HTTP parser reads from now on. */
export function countParsed(socket: TLSSocket, count: RecordCount): void {
  const { parser } = socket as unknown as Internals;
  const execute = parser?.[ON_EXECUTE];
  if (typeof execute !== "function") return;
  parser![ON_EXECUTE] = (...args: unknown[]): unknown => {
    count.records++;
    return execute(...args) as unknown;
  };
}

/** `HTTPParser.kOnExecute` */
const ON_EXECUTE = 5;

/** Hears of each write to a connection. */
export interface WriteWatcher {
  beforeWrite(): void;
  /** @param bytes of plaintext that the write took */
  afterWrite(bytes: number): void;
}

/*
 * Members of sockets are assigned below. To define them takes longer, and to delete one makes V8 keep all members of the socket in
 * a table.
 */

type Writing = TLSSocket & { _writeGeneric: (...args: unknown[]) => void };

/** Tells of the writes to a connection, until {@link ignoreWrites}. */
export function watchWrites(socket: TLSSocket, watcher: WriteWatcher): void {
  const writing = socket as Writing;
  const write = writing._writeGeneric;
  const handle = (socket as unknown as Internals)._handle!;
  writing._writeGeneric = (...args) => {
    watcher.beforeWrite();
    const { bytesWritten } = handle;
    write.apply(writing, args);
    watcher.afterWrite(handle.bytesWritten - bytesWritten);
  };
}

export function ignoreWrites(socket: TLSSocket): void {
  (socket as Writing)._writeGeneric = (Object.getPrototypeOf(socket) as Writing)._writeGeneric;
}

/** Hears how many bytes a record takes. */
export interface FragmentWatcher {
  onFragment(size: number): void;
}

/** Tells when the program changes how many bytes a record of a connection takes. */
export function watchFragments(socket: TLSSocket, watcher: FragmentWatcher): void {
  const set = socket.setMaxSendFragment.bind(socket);
  socket.setMaxSendFragment = (size) => {
    const isSet = set(size);
    if (isSet) watcher.onFragment(size);
    return isSet;
  };
}

/** Node's HTTP parser reads the bytes of a descriptor itself, unless it believes that another one does. */
export function keepFromParser(socket: Socket): void {
  const { _handle: handle } = socket as unknown as { _handle?: { _consumed?: boolean } | null };
  if (handle) handle._consumed = true;
}

/** Whether Node's own listener gives the secure connections of an HTTPS server to its HTTP parser. */
export function parsesSecure(server: Server): boolean {
  const listeners = server.listeners("secureConnection");
  // That of HTTP/2 has the same name, and gives those of HTTP/1.1 on.
  return listeners.some(
    (one) => one === parserListener() || ("updateSettings" in server && one.name === "connectionListener"),
  );
}

/** The server that accepted a TLS connection; undefined for one that a program has made. */
export function securedBy(socket: Socket): Server | undefined {
  return (socket as { server?: Server }).server;
}

/** A server of TLS with the certificates of another one, and none of its listeners. */
export function likeServer(server: TlsServer, options: TlsOptions): TlsServer {
  const copy = builtins.tls.createServer(options);
  const { _sharedCreds, _contexts } = server as unknown as Record<string, unknown>;
  return Object.assign(copy, { _sharedCreds, _contexts });
}
