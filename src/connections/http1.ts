import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Server, Socket } from "node:net";
import { makeRefusal, refusalOf, type Refusal } from "../exchange/parcel.js";
import { builtins, isTlsServer } from "../platform/builtins.js";
import {
  acceptedBy,
  activeAt,
  parserListener,
  responseOf,
  writeQueueSize,
} from "../platform/node-internals.js";
import { parsesSecure, securedBy } from "../platform/tls-internals.js";
import { hasGivenNothing } from "../tls/secure-connections.js";
import { IdleList } from "./idle-list.js";
import { LastResponses } from "./last-responses.js";
import type { CloseStrategy, Handover } from "./adapter.js";
import { notPromise, reportFailure, type GuardedAdapter } from "./guarded-adapter.js";
import type { HttpConnections } from "./http-connections.js";
import { hostTime, TimeLimits, type Silence } from "./time-limits.js";

/** The state that moves with a connection. */
interface Http1State extends Silence {
  /** The program's. */
  saved?: unknown;
}

/** The connections of a server. */
export interface Http1Connections {
  /** The sockets that were given to HTTP. */
  sockets(): Iterable<Socket>;
  /** When a connection was accepted, in ms of `performance.now()`; undefined for one that is not HTTP's. */
  acceptedAt(socket: Socket): number | undefined;
  /** A response is over, so its connection may be idle. */
  responded(socket: Socket): void;
}

/** Whether a server may have connections of HTTP/1.1: HTTP, HTTPS, or HTTP/2 over TLS, which may allow it. */
export function speaksHttp1(server: Server): server is HttpServer {
  if (server instanceof HttpServer) return true;
  return isTlsServer(server) && (server instanceof builtins.https.Server || "updateSettings" in server);
}

/**
 * The HTTP/1.1 connections of one server, plain or over TLS. What Node knows of a connection is asked for when it is to move:
 * between upgrades nothing is done for a connection, and next to nothing for a request. Node's own diagnostics channels
 * tell of every request, whatever listeners the program has.
 */
export class Http1 implements CloseStrategy, GuardedAdapter {
  readonly name: string;
  readonly version: number;
  readonly sleeps = true;
  /** The program's, by which connections move that it reads before HTTP does. */
  readonly #program: HttpConnections | undefined;
  readonly #connections: Http1Connections;
  readonly #server: HttpServer;
  readonly #isTls: boolean;
  readonly #idleList: IdleList;
  readonly #limits: TimeLimits;
  readonly #last = new LastResponses();
  /** Connections that the program reads before HTTP does. */
  readonly #intercepted = new WeakSet<Socket>();
  /** The state of those that were adopted. */
  readonly #adopted = new WeakMap<Socket, Silence>();
  /** The requests on each, if they are limited, that were begun in this process. */
  readonly #requests = new WeakMap<Socket, number>();
  /** Whether every connection is asked to close. */
  #closing = false;
  /** Those that do not move, and are asked to close although others are not. */
  #staying = new Set<Socket>();
  #isReporting = false;

  constructor(server: HttpServer, program: HttpConnections | undefined, connections: Http1Connections) {
    this.name = program === undefined ? "http/1.1" : "http/1.1 with state";
    this.version = program?.version ?? 1;
    this.#program = program;
    this.#server = server;
    this.#isTls = isTlsServer(server);
    this.#connections = connections;
    this.#idleList = new IdleList(server);
    this.#limits = new TimeLimits(server);
    subscribe(REQUEST_START, this.#onRequest);
  }

  /** In the server's event `connection`, with TLS `secureConnection`, before its other listeners. */
  add(socket: Socket): void {
    const accepting = this.#isTls ? securedBy(socket) : acceptedBy(socket);
    if (this.#intercepts || socket.bytesRead > 0 || accepting !== (this.#server as Server)) {
      this.#intercepted.add(socket);
    }
  }

  /** Whether the end of each response is reported. */
  setReporting(reporting: boolean): void {
    if (reporting === this.#isReporting) return;
    this.#isReporting = reporting;
    if (reporting) subscribe(RESPONSE_FINISH, this.#onResponse);
    else unsubscribe(RESPONSE_FINISH, this.#onResponse);
  }

  dispose(): void {
    unsubscribe(REQUEST_START, this.#onRequest);
    this.setReporting(false);
  }

  /** `Connection: close` on the next response of each connection, also on one whose head is not sent yet. */
  setClosing(closing: boolean): void {
    if (!closing) this.#idleList.forget();
    if (closing === this.#closing && this.#staying.size === 0) return;
    this.#closing = closing;
    this.#staying = new Set();
    for (const socket of this.#connections.sockets()) this.#last.setClosing(socket, this.#mustClose(socket));
  }

  /** The connection does not move, so it is asked to close although others are not. */
  markStaying(socket: Socket): void {
    if (this.#connections.acceptedAt(socket) === undefined) return;
    this.#staying.add(socket);
    this.#last.setClosing(socket, true);
  }

  idleConnections(): Map<Socket, string> {
    const closable = this.#closing ? this.#connections.sockets() : this.#staying;
    const idle = [...closable].filter((socket) => this.#isIdle(socket, socket.bytesRead));
    return new Map(idle.map((socket) => [socket, `${socket.bytesRead}/${socket.bytesWritten}`]));
  }

  closeIdle(socket: Socket): void {
    socket.destroySoon();
  }

  /**
   * Whether HTTP does not get the connection from its first byte, and at once: bytes that the program has taken off it
   * would be lost.
   */
  isIntercepted(socket: Socket): boolean {
    return this.#intercepted.has(socket);
  }

  /** Why the server cannot take a connection, if it cannot: the program would read it as a new one. */
  refuse(): Refusal | undefined {
    return this.#program === undefined && this.#intercepts ? INTERCEPTED : undefined;
  }

  freeze(socket: Socket): { state: Http1State } | Refusal | undefined {
    const { bytesRead } = socket;
    // HTTP has got nothing of half a record, which moves along, and of a KeyUpdate.
    const heard = hasGivenNothing(socket) ? 0 : bytesRead;
    if (!this.#isIdle(socket, heard)) return undefined;
    const requests = this.#requestsOf(socket, heard);
    const silentSince = this.#silentSince(socket, bytesRead);
    const timeout = this.#limits.ownTimeout(socket, requests);
    const silence = timeout === undefined ? { requests, silentSince } : { requests, silentSince, timeout };
    if (heard === 0 && this.#intercepted.has(socket)) return { state: { ...silence, isNew: true } };
    if (this.#program?.save === undefined) return { state: silence };
    try {
      return { state: { ...silence, saved: notPromise(this.#program.save(socket)) } };
    } catch (error) {
      reportFailure(this, "save", error);
      return refusalOf(error, "ERR_ADAPTER");
    }
  }

  thaw(socket: Socket, state: unknown, _: Server, isSilent: boolean): void {
    const { saved = null, isNew } = state as Http1State;
    if (isNew === undefined) {
      const handover: Handover = { state: saved };
      Object.assign(socket, { handover });
      this.#program?.restore?.(socket, saved);
    }
    this.#server.emit(this.#isTls ? "secureConnection" : "connection", socket);
    if (this.#connections.acceptedAt(socket) === undefined) return;
    this.#adopted.set(socket, state as Silence);
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
    if (Object.hasOwn(server, "emit")) return true;
    if (this.#isTls) return !parsesSecure(server);
    return !server.listeners("connection").includes(parserListener() as () => void);
  }

  get #limit(): number {
    return this.#server.maxRequestsPerSocket ?? 0;
  }

  /**
   * For Node a connection whose last response is still being flushed is idle, and to move or close it would cut the response
   * off. A response that is not finished alone would miss half a header. So both are asked.
   */
  #isIdle(socket: Socket, bytesRead: number): boolean {
    return (
      this.#connections.acceptedAt(socket) !== undefined &&
      responseOf(socket) === undefined &&
      socket.writable &&
      !socket.readableEnded &&
      socket.writableLength === 0 &&
      socket.writableCorked === 0 &&
      socket.readableLength === 0 &&
      writeQueueSize(socket) === 0 &&
      (bytesRead === 0 || this.#idleList.has(socket, bytesRead))
    );
  }

  /** Of an idle connection. They are counted if there is a limit, else 1 stands for any number. */
  #requestsOf(socket: Socket, bytesRead: number): number {
    const before = this.#adopted.get(socket)?.requests ?? 0;
    return before + (this.#requests.get(socket) ?? (bytesRead > 0 ? 1 : 0));
  }

  /** Of an idle connection; without any time limit nobody needs to know. */
  #silentSince(socket: Socket, bytesRead: number): number {
    const state = bytesRead === 0 ? this.#adopted.get(socket) : undefined;
    if (state !== undefined) return state.silentSince;
    const accepted = bytesRead === 0 ? this.#connections.acceptedAt(socket) : undefined;
    return hostTime(accepted ?? activeAt(socket) ?? performance.now());
  }

  #mustClose(socket: Socket): boolean {
    if (this.#closing || this.#staying.has(socket)) return true;
    return this.#limit > 0 && this.#requestsOf(socket, socket.bytesRead) >= this.#limit;
  }

  readonly #onRequest = (message: unknown): void => {
    const { request, response, server } = message as HttpMessage & { request: IncomingMessage };
    if (server !== this.#server) return;
    LastResponses.remember(request, response);
    const { socket } = request;
    this.#limits.begin(socket);
    if (this.#limit > 0) this.#requests.set(socket, (this.#requests.get(socket) ?? 0) + 1);
    else if (!this.#closing && this.#staying.size === 0) return;
    if (this.#connections.acceptedAt(socket) === undefined) return;
    this.#last.setClosing(socket, this.#mustClose(socket));
  };

  readonly #onResponse = (message: unknown): void => {
    const { server, socket } = message as HttpMessage;
    if (server === this.#server) this.#connections.responded(socket);
  };
}

interface HttpMessage {
  response: ServerResponse;
  server: HttpServer;
  socket: Socket;
}

export const INTERCEPTED = makeRefusal(
  "ERR_INTERCEPTED",
  "the program reads the connection before HTTP does",
);

const REQUEST_START = "http.server.request.start";
const RESPONSE_FINISH = "http.server.response.finish";
