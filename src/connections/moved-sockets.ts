import type { Server, Socket } from "node:net";
import { native } from "../platform/native.js";
import { isParsedBy, leaveServer } from "../platform/node-internals.js";

/**
 * The sockets of connections that have moved. Node takes most of the time of a move to close thousands of them, and the process
 * is about to exit. So a socket whose end nothing waits for only gives up its connection. If the process still runs a
 * second later, as it has busy connections, these sockets are closed, some at a time.
 */
export class MovedSockets {
  readonly #server: Server;
  readonly #ended: (socket: Socket) => void;
  /** Of this turn, and their descriptors. */
  #leaving: Socket[] = [];
  #fds: number[] = [];
  /** Those without a connection. */
  #vacant: Socket[] = [];
  #delay: NodeJS.Timeout | undefined;
  #closing: NodeJS.Timeout | undefined;

  /** @param ended called with a socket that is not the server's from then on, and has not emitted `close` */
  constructor(server: Server, ended: (socket: Socket) => void) {
    this.#server = server;
    this.#ended = ended;
  }

  /** Ends a socket that neither reads nor writes, with this descriptor. */
  add(socket: Socket, fd: number): void {
    if (this.#isObserved(socket)) return void socket.destroy();
    if (this.#leaving.length === 0) queueMicrotask(() => this.#vacate());
    this.#leaving.push(socket);
    this.#fds.push(fd);
    return undefined;
  }

  /** Whether the program would see that the socket is not closed. Node's parser listens, and the server's tracker. */
  #isObserved(socket: Socket): boolean {
    const own = isParsedBy(this.#server, socket) ? 2 : 1;
    return socket.listenerCount("close") > own || Object.hasOwn(socket, "destroy") || "encrypted" in socket;
  }

  #vacate(): void {
    let [leaving, fds] = [this.#leaving, this.#fds];
    [this.#leaving, this.#fds] = [[], []];
    if (leaving.some(({ destroyed }) => destroyed)) {
      fds = fds.filter((_, n) => !leaving[n]!.destroyed);
      leaving = leaving.filter(({ destroyed }) => !destroyed);
      if (leaving.length === 0) return;
    }
    if (native().vacate(fds) < 0) {
      for (const socket of leaving) socket.destroy();
      return;
    }
    leaveServer(this.#server, leaving);
    for (const socket of leaving) {
      this.#vacant.push(socket);
      this.#ended(socket);
    }
    this.#delay ??= setTimeout(() => this.#closeAll(), CLOSE_AFTER).unref();
    this.#delay.refresh();
  }

  #closeAll(): void {
    this.#closing ??= setInterval(() => {
      for (const socket of this.#vacant.splice(-CLOSED_AT_ONCE)) socket.destroy();
      if (this.#vacant.length > 0) return;
      clearInterval(this.#closing);
      this.#closing = undefined;
    }, CLOSE_EVERY).unref();
  }
}

/** ms after the last one has moved. */
const CLOSE_AFTER = 1_000;

/** ms, and sockets: thousands at once would block the event loop. */
const CLOSE_EVERY = 10;
const CLOSED_AT_ONCE = 32;
