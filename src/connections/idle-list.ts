import type { Server, Socket } from "node:net";
import { visitBetweenRequests } from "../platform/node-internals.js";

/**
 * The connections of an HTTP server on which no request is partly received, by Node's own list.
 *
 * To ask for the list takes 10 ms for 10,000 connections. So an answer is used as long as it is exact, that is until
 * bytes are read from the connection; and further questions take at most a part of the time, {@link ASKING}. Until the next
 * one a connection that has sent bytes counts as busy.
 */
export class IdleList {
  readonly #server: Server;
  /** The idle connections, with the bytes that had been read from each by then. */
  readonly #idle = new Map<Socket, number>();
  #nextAsk = 0;

  constructor(server: Server) {
    this.#server = server;
  }

  has(socket: Socket): boolean {
    if (this.#idle.get(socket) === socket.bytesRead) return true;
    const now = performance.now();
    if (now < this.#nextAsk) return false;
    this.#idle.clear();
    visitBetweenRequests(this.#server, (idle) => this.#idle.set(idle, idle.bytesRead));
    this.#nextAsk = now + (performance.now() - now) / ASKING;
    return this.#idle.has(socket);
  }

  /** An answer of thousands of sockets must not outlive its use. */
  forget(): void {
    this.#idle.clear();
  }
}

/** A part of the time; the rest is for the program. */
const ASKING = 0.03;
