import type { Server, Socket } from "node:net";
import { isParsedBy, parsedConnections } from "../platform/node-internals.js";

/**
 * The connections of an HTTP server on which no request is partly received, by Node's own lists.
 *
 * The list of the others is short if the server is idle, and asked for in each turn. To ask for the idle ones takes 10 ms for
 * 10,000 connections. So that answer is used as long as it is exact, that is until bytes are read from the connection; and
 * further questions take at most a part of the time, {@link ASKING}. Until the next one a connection that has sent bytes
 * counts as busy.
 */
export class IdleList {
  readonly #server: Server;
  /** The idle connections, with the bytes that had been read from each by then. */
  readonly #idle = new Map<Socket, number>();
  /** The others, if they are few, in this turn. */
  #active: ReadonlySet<Socket> | undefined;
  #nextAsk = 0;

  constructor(server: Server) {
    this.#server = server;
  }

  has(socket: Socket, bytesRead: number): boolean {
    if (this.#idle.get(socket) === bytesRead) return true;
    if (this.#active === undefined) this.#ask();
    if (this.#active === undefined) return this.#idle.get(socket) === bytesRead;
    return isParsedBy(this.#server, socket) && !this.#active.has(socket);
  }

  #ask(): void {
    const now = performance.now();
    if (now < this.#nextAsk) return;
    this.#idle.clear();
    const active = parsedConnections(this.#server, "active");
    if (active === undefined) return;
    if (active.length <= FEW) {
      this.#active = new Set(active);
      // Bytes are read in other turns only.
      queueMicrotask(() => (this.#active = undefined));
      return;
    }
    for (const socket of parsedConnections(this.#server, "idle")!) this.#idle.set(socket, socket.bytesRead);
    this.#nextAsk = now + (performance.now() - now) / ASKING;
  }

  /** An answer of thousands of sockets must not outlive its use. */
  forget(): void {
    this.#idle.clear();
  }
}

/** A part of the time; the rest is for the program. */
const ASKING = 0.03;

/** Connections of a list that can be asked for in each turn. */
const FEW = 100;
