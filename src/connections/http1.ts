import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Server as HttpsServer } from "node:https";
import type { Server, Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import { idleByNode, writeQueueSize } from "../internals.js";
import type { Protocol } from "./tracker.js";

type Response = ServerResponse;

/**
 * HTTP/1.1, plain or over TLS. Requests are counted by Node's own diagnostics channel, which sees every one,
 * whatever listeners the program has.
 */
export class Http1Connections implements Protocol {
  /** The open connections of each. */
  readonly #servers = new Map<Server, Set<Socket>>();
  /** Responses that are not finished, in the order of their requests. */
  readonly #inFlight = new Map<Socket, Response[]>();
  /** What Node meant to say about keep-alive, before we said otherwise. */
  readonly #keepAlive = new WeakMap<Response, boolean>();
  #closing = false;

  constructor() {
    subscribe(REQUEST_START, this.#onRequest);
  }

  watch(server: Server): void {
    const isSecure = isSecureWeb(server);
    if (!isSecure && !(server instanceof HttpServer)) return;
    const sockets = new Set<Socket>();
    this.#servers.set(server, sockets);
    const add = (socket: Socket): void => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    };
    // Of a secure connection first without and then with its TLS: it may never begin a handshake.
    server.prependListener("connection", add);
    if (isSecure) server.prependListener("secureConnection", add);
  }

  close(): void {
    unsubscribe(REQUEST_START, this.#onRequest);
  }

  /** `Connection: close` on the next response of each connection; those on their way included. */
  setClosing(closing: boolean): void {
    this.#closing = closing;
    for (const responses of this.#inFlight.values()) {
      for (const response of responses) this.#sayClose(response, closing && response === responses.at(-1));
    }
  }

  idle(): Map<Socket, string> {
    const look = new Map<Socket, string>();
    for (const [server, sockets] of this.#servers) {
      const idle = idleByNode(server, sockets);
      for (const socket of sockets) {
        if (!this.#isQuiet(socket) || !(idle.has(socket) || socket.bytesRead === 0)) continue;
        look.set(socket, `${socket.bytesRead}/${socket.bytesWritten}`);
      }
    }
    return look;
  }

  end(socket: Socket): void {
    socket.destroySoon();
  }

  /**
   * Node calls a connection idle whose last response is still being flushed, and closing it would cut that
   * off; so both Node's judgement and this one are needed.
   */
  #isQuiet(socket: Socket): boolean {
    return (
      !this.#inFlight.has(socket) &&
      !socket.destroyed &&
      socket.writableLength === 0 &&
      socket.readableLength === 0 &&
      writeQueueSize(socket) === 0
    );
  }

  readonly #onRequest = (message: unknown): void => {
    const { request, response, server } = message as {
      request: IncomingMessage;
      response: Response;
      server: Server;
    };
    if (!this.#servers.has(server)) return;
    const { socket } = request;
    const responses = this.#inFlight.get(socket) ?? [];
    // A pipelined request takes over being the last one, after which the connection may close.
    if (this.#closing) for (const earlier of responses) this.#sayClose(earlier, false);
    responses.push(response);
    this.#inFlight.set(socket, responses);
    if (this.#closing) this.#sayClose(response, true);
    response.once("close", () => {
      responses.splice(responses.indexOf(response), 1);
      if (responses.length === 0) this.#inFlight.delete(socket);
    });
  };

  #sayClose(response: Response, close: boolean): void {
    if (response.headersSent) return;
    if (!this.#keepAlive.has(response)) this.#keepAlive.set(response, response.shouldKeepAlive);
    response.shouldKeepAlive = !close && this.#keepAlive.get(response) === true;
  }
}

const REQUEST_START = "http.server.request.start";

/** HTTPS, or HTTP/2 over TLS, which may allow HTTP/1.1. Other servers over TLS are no business of this file. */
function isSecureWeb(server: Server): boolean {
  return server instanceof HttpsServer || (server instanceof TlsServer && "updateSettings" in server);
}
