import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { newestRequest } from "../platform/node-internals.js";

/**
 * The last response of each connection: only that one may say `Connection: close`, as the responses to pipelined requests
 * that wait behind it would not be sent.
 */
export class LastResponses {
  /** Those that were asked to close their connection, with Node's own decision. */
  readonly #asked = new WeakMap<Socket, { response: ServerResponse; keepAlive: boolean }>();

  /** Node knows the newest request of a connection, but not the response to it. */
  static remember(request: IncomingMessage, response: ServerResponse): void {
    (request as Remembering)[RESPONSE] = response;
  }

  /** Asks a connection to close with its last response, unless the head of that is sent; or takes this back. */
  setClosing(socket: Socket, closing: boolean): void {
    const asked = this.#asked.get(socket);
    if (asked !== undefined && !asked.response.headersSent) asked.response.shouldKeepAlive = asked.keepAlive;
    this.#asked.delete(socket);
    const newest: Remembering | undefined = newestRequest(socket);
    const response = newest?.[RESPONSE];
    if (!closing || response === undefined || response.headersSent) return;
    this.#asked.set(socket, { response, keepAlive: response.shouldKeepAlive });
    response.shouldKeepAlive = false;
  }
}

type Remembering = IncomingMessage & { [RESPONSE]?: ServerResponse };

const RESPONSE = Symbol("response");
