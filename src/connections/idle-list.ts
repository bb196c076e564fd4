import { Server as HttpServer } from "node:http";
import type { Server, Socket } from "node:net";

/**
 * The connections of a server that Node itself considers idle: the documented `closeIdleConnections()` would destroy
 * them, so it is called with a `destroy` that only records them.
 *
 * One such call takes 10 ms for 10,000 connections. So its answer is used as long as it is exact, that is until bytes are
 * read from the connection; and further calls take at most a part of the time, {@link ASKING}. Until the next one a
 * connection that has sent bytes counts as busy.
 */
export class IdleList {
  readonly #server: Server;
  /** The idle connections, with the bytes that had been read from each by then. */
  readonly #idle = new Map<Socket, number>();
  #nextAsk = 0;
  #collecting = false;

  constructor(server: Server) {
    this.#server = server;
  }

  /** Every connection of the server must be added: asking would close one that is not. */
  add(socket: Socket): void {
    socket.destroy = (error?: Error) => {
      if (!this.#collecting) return Object.getPrototypeOf(socket).destroy.call(socket, error) as Socket;
      this.#idle.set(socket, socket.bytesRead);
      return socket;
    };
    socket.once("close", () => this.#idle.delete(socket));
  }

  has(socket: Socket): boolean {
    if (this.#idle.get(socket) === socket.bytesRead) return true;
    const now = performance.now();
    if (now < this.#nextAsk) return false;
    this.#ask();
    this.#nextAsk = now + (performance.now() - now) / ASKING;
    return this.#idle.has(socket);
  }

  #ask(): void {
    this.#idle.clear();
    this.#collecting = true;
    try {
      // An HTTP/2 server that allows HTTP/1.1 has the same list, but not the method.
      HttpServer.prototype.closeIdleConnections.call(this.#server as HttpServer);
    } finally {
      this.#collecting = false;
    }
  }
}

/** A part of the time; the rest is for the program. */
const ASKING = 0.03;
