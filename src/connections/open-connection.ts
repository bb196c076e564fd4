import type { Socket } from "node:net";
import { refusalOf, type Refusal } from "../exchange/parcel.js";
import { reportFailure, type GuardedAdapter } from "./guarded-adapter.js";
import type { Http1 } from "./http1.js";
import type { FrozenConnection, Movable } from "./movable.js";
import { PausedSocket } from "./paused-socket.js";
import { encodeConnection } from "./connection-parcel.js";
import { rememberUse } from "./use.js";

/** The server of a connection, as the connection sees it. */
interface ConnectionServer {
  /** Names its listener, by which the successor finds its own. */
  readonly label: string;
  readonly adapters: readonly GuardedAdapter[];
  readonly http1: Http1 | undefined;
  /** Why a connection cannot move by an adapter, if it cannot. */
  refuse(socket: Socket, adapter: GuardedAdapter): Refusal | undefined;
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

  /** In one turn: bytes that arrive after the adapter's look are still in the kernel, and move along. */
  freeze(id: number): FrozenConnection | Refusal | undefined {
    if (this.#socket.destroyed) return undefined;
    let failure: Refusal | undefined;
    for (const adapter of this.#server.adapters) {
      const frozen = this.#server.refuse(this.#socket, adapter) ?? adapter.freeze(this.#socket);
      if (frozen === undefined) continue;
      if (!("code" in frozen)) return this.#pause(adapter, frozen.state, id);
      // Another adapter may know the connection.
      failure ??= frozen;
    }
    return failure;
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

  #pause(adapter: GuardedAdapter, state: unknown, id: number): FrozenConnection | Refusal {
    const socket = this.#socket;
    let paused: PausedSocket | undefined;
    try {
      const pausing = new PausedSocket(socket, (member, error) => reportFailure(adapter, member, error));
      paused = pausing;
      const { label } = this.#server;
      const { unread, fd } = pausing;
      const isUnused = rememberUse(fd);
      return {
        connection: this,
        parcel: encodeConnection({ id, label, adapter, state, unread, fd }),
        onTaken: () => {
          adapter.moved?.(socket);
          pausing.discard();
        },
        onReturned: () => pausing.resume(),
        isUntouched: () => socket.destroyed || isUnused(),
        onLost: () => pausing.discard(),
      };
    } catch (error) {
      // The state is no JSON, or the adapter has closed the socket.
      paused?.resume();
      reportFailure(adapter, "freeze", error);
      return refusalOf(error, "ERR_ADAPTER");
    }
  }
}
