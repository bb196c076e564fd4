import type { Server, Socket } from "node:net";
import { Http1Connections } from "./http1.js";
import { Http2Sessions } from "./http2.js";

/** What knows when the connections of one protocol are idle. */
export interface Protocol {
  /** From now on, connections are told to close at their next opportunity; or no longer. */
  setClosing(closing: boolean): void;
  /** Every connection that is idle now, with a mark that changes when anything has happened on it since. */
  idle(): ReadonlyMap<unknown, string>;
  /** Closes an idle one, in the protocol's own way. */
  end(connection: unknown): void;
}

/** The live connections of all servers. */
export class Tracker {
  readonly #servers = new WeakSet<Server>();
  readonly #sockets = new Set<Socket>();
  readonly #http1 = new Http1Connections();
  readonly #http2 = new Http2Sessions();
  readonly protocols: readonly Protocol[] = [this.#http1, this.#http2];
  /** Called when the last connection has ended. */
  onEmpty: (() => void) | undefined;

  /**
   * Watches a server's connections from now on, and for good: one that is closed keeps them. At the first call
   * it must not have any yet.
   */
  watch(server: Server): void {
    if (this.#servers.has(server)) return;
    this.#servers.add(server);
    server.prependListener("connection", this.#add);
    this.#http1.watch(server);
    this.#http2.watch(server);
  }

  get size(): number {
    return this.#sockets.size;
  }

  /** Destroys what is left, and tells how many that were. */
  destroyAll(): number {
    const count = this.#sockets.size;
    for (const socket of this.#sockets) socket.destroy();
    return count;
  }

  /** Lets go of everything it has installed. */
  close(): void {
    this.#http1.close();
  }

  readonly #add = (socket: Socket): void => {
    this.#sockets.add(socket);
    socket.once("close", () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.onEmpty?.();
    });
  };
}
