import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Server as HttpsServer } from "node:https";
import type { Server, Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import { writeQueueSize } from "../platform/node-internals.js";
import { IdleList } from "./idle-list.js";
import type { CloseStrategy } from "./adapter.js";
import type { GuardedAdapter } from "./guarded-adapter.js";

/** What travels with a connection. */
interface Http1State {
  /** Requests that were answered on it. */
  requests: number;
  /** ms of the host's monotonic clock, which all processes share: since when it is silent. */
  silentSince: number;
}

interface Http1Listener {
  /** A response is over, so its connection may be idle. */
  responded(socket: Socket): void;
}

/** HTTP, HTTPS, or HTTP/2 over TLS, which may allow HTTP/1.1. Others are no business of this file. */
export function speaksHttp1(server: Server): server is HttpServer {
  return server instanceof HttpServer || server instanceof HttpsServer || isSecureHttp2(server);
}

function isSecureHttp2(server: Server): boolean {
  return server instanceof TlsServer && "updateSettings" in server;
}

/**
 * The HTTP/1.1 connections of one server, plain or over TLS. Requests are counted by Node's own diagnostics
 * channel, which sees every one, whatever listeners the program has.
 */
export class Http1 implements CloseStrategy, GuardedAdapter {
  readonly name = "http/1.1";
  readonly version = 1;
  readonly #server: HttpServer;
  readonly #idleList: IdleList;
  readonly #connections = new Map<Socket, Connection>();
  /** Connections that are told to close: all, or those that the successor does not take. */
  #closing = false;
  #someAreStaying = false;
  readonly #listener: Http1Listener;

  constructor(server: HttpServer, listener: Http1Listener) {
    this.#server = server;
    this.#listener = listener;
    this.#idleList = new IdleList(server);
    subscribe(REQUEST_START, this.#onRequest);
  }

  add(socket: Socket): void {
    this.#connections.set(socket, { requests: 0, silentSince: now(), inFlight: [], isStaying: false });
    this.#idleList.add(socket);
    socket.once("close", () => this.#connections.delete(socket));
  }

  dispose(): void {
    unsubscribe(REQUEST_START, this.#onRequest);
  }

  /** `Connection: close` on the next response of each connection; those on their way included. */
  setClosing(closing: boolean): void {
    if (closing === this.#closing && !this.#someAreStaying) return;
    this.#closing = closing;
    this.#someAreStaying &&= closing;
    for (const connection of this.#connections.values()) {
      if (!closing) connection.isStaying = false;
      this.#setKeepAlive(connection);
    }
  }

  /** One that does not move is told to close, though others are not. */
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
      if (!(this.#closing || connection.isStaying) || !this.idle(socket)) continue;
      closable.set(socket, `${socket.bytesRead}/${socket.bytesWritten}`);
    }
    return closable;
  }

  closeIdle(socket: Socket): void {
    socket.destroySoon();
  }

  /**
   * Node calls a connection idle whose last response is still being flushed, and moving or closing it would cut
   * that off; a count of requests alone would miss half a header. So both are asked.
   */
  idle(socket: Socket): boolean {
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

  freeze(socket: Socket): { state: Http1State } {
    const { requests, silentSince } = this.#connections.get(socket)!;
    return { state: { requests, silentSince } };
  }

  thaw(socket: Socket, state: unknown): void {
    this.#server.emit("connection", socket);
    const connection = this.#connections.get(socket);
    if (connection !== undefined) connection.requests = (state as Http1State).requests;
  }

  idleTimeout(state: unknown): number {
    const { requests, silentSince } = state as Http1State;
    const { keepAliveTimeout, headersTimeout } = this.#server;
    const limit = requests > 0 ? keepAliveTimeout : headersTimeout;
    return limit === 0 ? Infinity : silentSince + limit - now();
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

  /** Only the last of pipelined responses may end the connection, or the others would not be answered. */
  #setKeepAlive({ requests, inFlight, isStaying: stays }: Connection): void {
    const most = this.#server.maxRequestsPerSocket ?? 0;
    const close = this.#closing || stays || (most > 0 && requests >= most);
    for (const { response, keepAlive } of inFlight) {
      const isLast = response === inFlight.at(-1)?.response;
      if (!response.headersSent) response.shouldKeepAlive = keepAlive && !(close && isLast);
    }
  }
}

interface Connection extends Http1State {
  /** Responses that are not finished, in the order of their requests, with what Node meant to say of each. */
  inFlight: { response: ServerResponse; keepAlive: boolean }[];
  /** It is not moved. */
  isStaying: boolean;
}

const REQUEST_START = "http.server.request.start";

function now(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
