import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Server, Socket } from "node:net";
import { makeRefusal, refusalOf, type Refusal } from "../exchange/parcel.js";
import { builtins, isTlsServer } from "../platform/builtins.js";
import { acceptedBy, parserListener, writeQueueSize } from "../platform/node-internals.js";
import { IdleList } from "./idle-list.js";
import type { CloseStrategy, Handover } from "./adapter.js";
import { notPromise, reportFailure, type GuardedAdapter } from "./guarded-adapter.js";
import type { HttpConnections } from "./http-connections.js";
import { now, TimeLimits, type Silence } from "./time-limits.js";

/** The state that moves with a connection. */
interface Http1State extends Silence {
  /** The program's. */
  saved?: unknown;
}

interface Http1Listener {
  /** A response is over, so its connection may be idle. */
  responded(socket: Socket): void;
}

/** Whether a server may have connections of HTTP/1.1: HTTP, HTTPS, or HTTP/2 over TLS, which may allow it. */
export function speaksHttp1(server: Server): server is HttpServer {
  if (server instanceof HttpServer) return true;
  return isTlsServer(server) && (server instanceof builtins.https.Server || "updateSettings" in server);
}

/**
 * The HTTP/1.1 connections of one server, plain or over TLS. Requests are counted by Node's own diagnostics channel, which
 * sees every request, whatever listeners the program has.
 */
export class Http1 implements CloseStrategy, GuardedAdapter {
  readonly name: string;
  readonly version: number;
  /** The program's, by which connections move that it reads before HTTP does. */
  readonly #program: HttpConnections | undefined;
  readonly #server: HttpServer;
  readonly #idleList: IdleList;
  readonly #limits: TimeLimits;
  readonly #connections = new Map<Socket, Connection>();
  /** Whether every connection is asked to close. */
  #closing = false;
  #someAreStaying = false;
  readonly #listener: Http1Listener;

  constructor(server: HttpServer, program: HttpConnections | undefined, listener: Http1Listener) {
    this.name = program === undefined ? "http/1.1" : "http/1.1 with state";
    this.version = program?.version ?? 1;
    this.#program = program;
    this.#server = server;
    this.#listener = listener;
    this.#idleList = new IdleList(server);
    this.#limits = new TimeLimits(server);
    subscribe(REQUEST_START, this.#onRequest);
  }

  /** In the server's event `connection`, before its other listeners. */
  add(socket: Socket): void {
    // A program that has read the first bytes may emit the event again.
    if (this.#connections.has(socket)) return;
    const isIntercepted =
      this.#intercepts || socket.bytesRead > 0 || acceptedBy(socket) !== (this.#server as Server);
    const connection = { requests: 0, silentSince: now(), inFlight: [], isStaying: false, isIntercepted };
    this.#connections.set(socket, connection);
    this.#idleList.add(socket);
    socket.once("close", () => this.#connections.delete(socket));
  }

  dispose(): void {
    unsubscribe(REQUEST_START, this.#onRequest);
  }

  /** `Connection: close` on the next response of each connection, also on one whose head is not sent yet. */
  setClosing(closing: boolean): void {
    if (closing === this.#closing && !this.#someAreStaying) return;
    this.#closing = closing;
    this.#someAreStaying &&= closing;
    for (const connection of this.#connections.values()) {
      if (!closing) connection.isStaying = false;
      this.#setKeepAlive(connection);
    }
  }

  /** The connection does not move, so it is asked to close although others are not. */
  markStaying(socket: Socket): void {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return;
    connection.isStaying = true;
    this.#someAreStaying = true;
    this.#setKeepAlive(connection);
  }

  idleConnections(): Map<Socket, string> {
    const closable = new Map<Socket, string>();
    if (!this.#closing && !this.#someAreStaying) return closable;
    for (const [socket, connection] of this.#connections) {
      if (!(this.#closing || connection.isStaying) || !this.#isIdle(socket)) continue;
      closable.set(socket, `${socket.bytesRead}/${socket.bytesWritten}`);
    }
    return closable;
  }

  closeIdle(socket: Socket): void {
    socket.destroySoon();
  }

  /**
   * Whether HTTP does not get the connection from its first byte, and at once: bytes that the program has taken off it
   * would be lost.
   */
  isIntercepted(socket: Socket): boolean {
    return this.#connections.get(socket)?.isIntercepted === true;
  }

  /** Why the server cannot take a connection, if it cannot: the program would read it as a new one. */
  refuse(): Refusal | undefined {
    return this.#program === undefined && this.#intercepts ? INTERCEPTED : undefined;
  }

  freeze(socket: Socket): { state: Http1State } | Refusal | undefined {
    if (!this.#isIdle(socket)) return undefined;
    const { requests, silentSince, isIntercepted } = this.#connections.get(socket)!;
    const silence = { requests, silentSince, ...this.#limits.ownTimeout(socket, requests) };
    if (isIntercepted && socket.bytesRead === 0) return { state: { ...silence, isNew: true } };
    if (this.#program?.save === undefined) return { state: silence };
    try {
      return { state: { ...silence, saved: notPromise(this.#program.save(socket)) } };
    } catch (error) {
      reportFailure(this, "save", error);
      return refusalOf(error, "ERR_ADAPTER");
    }
  }

  thaw(socket: Socket, state: unknown, _: Server, isSilent: boolean): void {
    const { requests, silentSince, saved = null, isNew } = state as Http1State;
    if (isNew === undefined) {
      const handover: Handover = { state: saved };
      Object.assign(socket, { handover });
      this.#program?.restore?.(socket, saved);
    }
    this.#server.emit("connection", socket);
    const connection = this.#connections.get(socket);
    if (connection === undefined) return;
    Object.assign(connection, { requests, silentSince });
    this.#limits.apply(socket, state as Silence, isSilent);
  }

  idleTimeout(state: unknown): number {
    return this.#limits.remaining(state as Silence);
  }

  expire(state: unknown): ((socket: Socket) => void) | undefined {
    return this.#limits.expire(state as Silence);
  }

  /** Whether a listener or `emit` of the program decides when Node's parser gets a connection. */
  get #intercepts(): boolean {
    const server = this.#server;
    return (
      Object.hasOwn(server, "emit") ||
      !server.listeners("connection").includes(parserListener() as () => void)
    );
  }

  /**
   * A connection whose last response is still being flushed is idle for Node, and to move or close it would cut the
   * response off. A count of requests alone would miss half a header. So both are asked.
   */
  #isIdle(socket: Socket): boolean {
    return (
      this.#connections.get(socket)?.inFlight.length === 0 &&
      socket.writable &&
      !socket.readableEnded &&
      socket.writableLength === 0 &&
      socket.writableCorked === 0 &&
      socket.readableLength === 0 &&
      writeQueueSize(socket) === 0 &&
      (socket.bytesRead === 0 || this.#idleList.has(socket))
    );
  }

  readonly #onRequest = (message: unknown): void => {
    const { request, response, server } = message as {
      request: IncomingMessage;
      response: ServerResponse;
      server: HttpServer;
    };
    const connection = server === this.#server ? this.#connections.get(request.socket) : undefined;
    if (connection === undefined) return;
    const { inFlight } = connection;
    inFlight.push({ response, keepAlive: response.shouldKeepAlive });
    connection.requests++;
    this.#limits.begin(request.socket);
    this.#setKeepAlive(connection);
    response.once("close", () => {
      inFlight.splice(
        inFlight.findIndex((one) => one.response === response),
        1,
      );
      connection.silentSince = now();
      this.#listener.responded(request.socket);
    });
  };

  /** Only the last of pipelined responses may close the connection: the others would not be sent. */
  #setKeepAlive({ requests, inFlight, isStaying }: Connection): void {
    const limit = this.#server.maxRequestsPerSocket ?? 0;
    const close = this.#closing || isStaying || (limit > 0 && requests >= limit);
    for (const { response, keepAlive } of inFlight) {
      const isLast = response === inFlight.at(-1)?.response;
      if (!response.headersSent) response.shouldKeepAlive = keepAlive && !(close && isLast);
    }
  }
}

interface Connection extends Silence {
  /** Responses that are not finished, in the order of their requests, each with Node's own decision. */
  inFlight: { response: ServerResponse; keepAlive: boolean }[];
  /** It does not move. */
  isStaying: boolean;
  isIntercepted: boolean;
}

export const INTERCEPTED = makeRefusal(
  "ERR_INTERCEPTED",
  "the program reads the connection before HTTP does",
);

const REQUEST_START = "http.server.request.start";
