import type { Server as HttpServer } from "node:http";
import type { Socket } from "node:net";
import { isTlsServer } from "../platform/builtins.js";

/** The state by which the next process continues the time limits of a silent connection. */
export interface Silence {
  /** Requests that were begun on it: at least one if there was any, and exact where the server limits them. */
  requests: number;
  /** When its last response ended, in ms of the host's monotonic clock, which all processes share. */
  silentSince: number;
  /** The timeout of its socket, in ms, if the program has set it: 0 for none. Else the server's are in force. */
  timeout?: number;
  /** Nothing was read from it, and the program has not given it to HTTP yet: it moves as if it had just been accepted. */
  isNew?: true;
}

/**
 * The time limits of an HTTP server, for connections that it has adopted: they end when accepted ones would, and in the
 * same way.
 */
export class TimeLimits {
  readonly #server: HttpServer;
  /** Sockets of connections that have been silent since they were frozen. */
  readonly #silent = new WeakMap<Socket, { silence: Silence; given: number; next: number }>();
  /** A look at a WeakMap with each request would cost something. */
  #hasSilent = false;

  constructor(server: HttpServer) {
    this.#server = server;
  }

  /** The timeout of a silent socket, if the program has set it. */
  ownTimeout(socket: Socket, requests: number): number | undefined {
    const timeout = socket.timeout ?? 0;
    const thawed = this.#hasSilent ? this.#silent.get(socket) : undefined;
    if (thawed?.given === timeout) return thawed.silence.timeout;
    return timeout === this.#timeoutOf(requests, undefined) ? undefined : timeout;
  }

  /** ms that a connection may still be silent; Infinity without a limit. */
  remaining(silence: Silence): number {
    const timeout = this.#timeoutOf(silence.requests, silence.timeout);
    const limit = this.#requestLimit(silence);
    return Math.min(timeout > 0 ? timeout : Infinity, limit > 0 ? limit : Infinity) - elapsed(silence);
  }

  /**
   * How a dormant connection ends when none of its time remains, once it has a socket. Undefined if nothing but its end
   * can be noticed: a socket for each of thousands would block the event loop.
   */
  expire(silence: Silence): ((socket: Socket) => void) | undefined {
    const timeout = this.#timeoutOf(silence.requests, silence.timeout);
    const limit = this.#requestLimit(silence);
    if (limit > 0 && (timeout === 0 || limit < timeout)) return (socket) => this.#endRequest(socket);
    const isObserved = this.#server.listenerCount("timeout") > 0 || hasOwnListener(this.#server);
    // Its socket has a timeout that ends at once.
    return isObserved ? () => {} : undefined;
  }

  /** Continues the limits on a socket for which the listeners of `connection` have run. */
  apply(socket: Socket, silence: Silence, isSilent: boolean): void {
    const set = socket.timeout ?? 0;
    const next = this.#afterSilence(silence, set);
    if (!isSilent) {
      if (next !== set) socket.setTimeout(next);
      return;
    }
    const limit = this.#timeoutOf(silence.requests, silence.timeout);
    const given = limit === 0 ? 0 : Math.max(1, limit - elapsed(silence));
    this.#silent.set(socket, { silence, given, next });
    this.#hasSilent = true;
    socket.setTimeout(given);
  }

  /** A request has begun: the connection is no longer silent. */
  begin(socket: Socket): void {
    const thawed = this.#hasSilent ? this.#silent.get(socket) : undefined;
    if (thawed === undefined) return;
    this.#silent.delete(socket);
    if (socket.timeout === thawed.given) socket.setTimeout(thawed.next);
  }

  /** The timeout of a socket, 0 for none. */
  #timeoutOf(requests: number, timeout: number | undefined): number {
    if (timeout !== undefined) return timeout;
    return (requests > 0 && this.#keepAlive) || this.#server.timeout || 0;
  }

  /** 0 for none. Node waits for a client that sends its next request at the last instant. */
  get #keepAlive(): number {
    const { keepAliveTimeout: limit, keepAliveTimeoutBuffer: buffer = NaN } = this.#server as HttpServer & {
      keepAliveTimeoutBuffer?: number;
    };
    return limit > 0 ? limit + (Number.isFinite(buffer) && buffer >= 0 ? buffer : BUFFER) : 0;
  }

  /** The limit of a first request, which runs from the beginning of the connection; 0 for none. */
  #requestLimit({ requests, isNew }: Silence): number {
    if (requests > 0 || isNew) return 0;
    const { headersTimeout, requestTimeout } = this.#server;
    const limits = [headersTimeout, requestTimeout].filter((limit) => limit > 0);
    return limits.length === 0 ? 0 : Math.min(...limits);
  }

  /** The timeout that Node gives a socket with the first byte after its silence. */
  #afterSilence({ requests, timeout }: Silence, set: number): number {
    const usual = this.#server.timeout || 0;
    if (timeout !== undefined) return set === usual ? timeout : set;
    return requests > 0 && this.#keepAlive > 0 ? usual : set;
  }

  /** As Node does for an accepted connection. */
  #endRequest(socket: Socket): void {
    const error = Object.assign(new Error("Request timeout"), { code: "ERR_HTTP_REQUEST_TIMEOUT" });
    if (this.#server.emit("clientError", error, socket) || socket.destroyed) return;
    socket.write("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n");
    socket.destroy();
  }
}

/** A time of `performance.now()`, in whole ms of the host's monotonic clock. */
export function hostTime(time: number): number {
  // Not at the start, which need not load that clock.
  origin ??= Number(process.hrtime.bigint()) / 1e6 - performance.now();
  return Math.trunc(time + origin);
}

/** The beginning of `performance.now()`, in ms of the host's monotonic clock. */
let origin: number | undefined;

function elapsed({ silentSince }: Silence): number {
  return hostTime(performance.now()) - silentSince;
}

/** Node's default, which Node 20 does not let a program change. */
const BUFFER = 1_000;

/** Whether the program itself listens to the connections of a server. */
function hasOwnListener(server: HttpServer): boolean {
  if (!isTlsServer(server)) return server.listenerCount("connection") > OWN_LISTENERS;
  return server.listenerCount("secureConnection") > OWN_SECURE_LISTENERS;
}

/** Listeners of `connection`, and of `secureConnection`, that no program has added: Node's and handover's. */
const OWN_LISTENERS = 2;
const OWN_SECURE_LISTENERS = 4;
