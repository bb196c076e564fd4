import type { Socket } from "node:net";
import type { ConnectionAdapter } from "./adapter.js";
import type { Http1 } from "./http1.js";
import type { FrozenConnection, Movable } from "./movable.js";
import { PausedSocket } from "./paused-socket.js";
import { encodeConnection } from "./wire-format.js";

/** The server of a connection, as the connection sees it. */
interface ConnectionServer {
  /** Names its listener, by which the successor finds its own. */
  readonly label: string;
  readonly adapters: readonly ConnectionAdapter[];
  readonly http1: Http1 | undefined;
}

/** A connection that has a socket. */
export class OpenConnection implements Movable {
  readonly #socket: Socket;
  readonly #server: ConnectionServer;
  #undoQuiescing: (() => void) | undefined;

  constructor(socket: Socket, server: ConnectionServer) {
    this.#socket = socket;
    this.#server = server;
  }

  /** Looks, stops reading and encodes in one turn: bytes that arrive later are still in the kernel, and move along. */
  freeze(id: number): FrozenConnection | undefined {
    const socket = this.#socket;
    const { label, adapters } = this.#server;
    const adapter = socket.destroyed ? undefined : adapters.find((one) => one.idle(socket));
    if (adapter === undefined) return undefined;
    const state = adapter.freeze(socket);
    const paused = new PausedSocket(socket);
    try {
      return {
        connection: this,
        parcel: encodeConnection({ id, label, adapter, state, unread: paused.unread, fd: paused.fd }),
        onTaken: () => {
          callMoved(adapter, socket);
          paused.discard();
        },
        onReturned: () => paused.resume(),
      };
    } catch (error) {
      paused.resume();
      throw error;
    }
  }

  quiesce(rested: () => void): void {
    const socket = this.#socket;
    if (socket.destroyed || this.#undoQuiescing !== undefined) return;
    for (const adapter of this.#server.adapters) {
      this.#undoQuiescing = adapter.quiesce?.(socket, rested);
      if (this.#undoQuiescing === undefined) continue;
      socket.once("close", () => (this.#undoQuiescing = undefined));
      return;
    }
  }

  endQuiescing(): void {
    this.#undoQuiescing?.();
    this.#undoQuiescing = undefined;
  }

  markStaying(): void {
    this.#server.http1?.markStaying(this.#socket);
  }
}

/** What it throws is the program's, and must not keep others from moving. */
function callMoved(adapter: ConnectionAdapter, socket: Socket): void {
  try {
    adapter.moved?.(socket);
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}
