import { Server as HttpServer } from "node:http";
import type { Server, Socket } from "node:net";

/**
 * The connections of a server that Node itself thinks idle: those which the documented
 * `closeIdleConnections()` would destroy, found out by letting it.
 *
 * Asking takes as long as there are connections, 10 ms for 10,000. So an answer is kept while it is exact, which is as
 * long as nobody has read from the connection since; and asking again takes at most a part of the time,
 * {@link ASKING}. Meanwhile a connection that has spoken is not called idle, and is asked for later.
 */
export class IdleList {
  readonly #server: Server;
  /** The idle ones, with the bytes that had been read from each when it was found to be. */
  readonly #idle = new Map<Socket, number>();
  #nextAsk = 0;
  #collecting = false;

  constructor(server: Server) {
    this.#server = server;
  }

  /** From now on the connection is asked for. Every one of the server's must be, or asking would close it. */
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
      // Of other servers, too: an HTTP/2 server that allows HTTP/1.1 keeps the same list, but not the method.
      HttpServer.prototype.closeIdleConnections.call(this.#server as HttpServer);
    } finally {
      this.#collecting = false;
    }
  }
}

/** A part of the time; what is left is for the program. */
const ASKING = 0.03;
