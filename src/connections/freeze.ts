import { makeRefusal, type Parcel, type Refusal, refusalOf } from "../exchange/parcel.js";
import type { SecureConnections } from "../tls/secure-connections.js";
import type { Socket } from "node:net";
import { reportFailure, type GuardedAdapter } from "./guarded-adapter.js";
import type { Http1 } from "./http1.js";
import type { MovedSockets } from "./moved-sockets.js";
import { PausedSocket } from "./paused-socket.js";
import { bundled, type Bundled } from "./bundle.js";
import { encodeConnection, forgetSecrets, SECURE_KIND } from "./connection-parcel.js";
import { Use } from "./use.js";

/** A connection that can move to the successor: one with a socket, or a dormant one. */
export interface Movable {
  readonly hasEnded: boolean;
  /** The same of a dormant connection and of the one with a socket that it becomes. */
  readonly identity: object;
  /**
   * Freezes the connection if it is idle. Undefined if it is busy or has ended, a refusal if its adapter failed: it is
   * then as before.
   *
   * @param id of its parcel
   * @param bundles whether it may travel in a bundle
   */
  freeze(id: number, bundles: boolean): FrozenConnection | Refusal | undefined;
  /** Lets the adapter bring a busy connection to rest; `rested` is called when it may be idle. */
  quiesce(rested: () => void): void;
  /** Undoes {@link quiesce}. */
  endQuiescing(): void;
  /** The connection does not move, so it is asked to close although others are not. */
  markStaying(): void;
}

/** A frozen connection: it neither reads nor writes until its parcel is settled. */
export interface FrozenConnection {
  readonly connection: Movable;
  /** Its parcel, or its part of one. */
  readonly content: Parcel | Bundled;
  /** The successor has it. */
  onTaken(): void;
  /** The successor does not have it: it continues here. */
  onReturned(): void;
  /** Whether nothing was read from it or written to it since it was frozen. */
  isUntouched(): boolean;
  /** The successor has used it and is dead: it ends here. */
  onLost(): void;
}

/** The server of a connection, as the connection sees it. */
interface ConnectionServer {
  /** Names its listener, by which the successor finds its own. */
  readonly label: string;
  readonly adapters: readonly GuardedAdapter[];
  readonly http1: Http1 | undefined;
  /** The record layers of its connections; undefined without TLS. */
  readonly secure: SecureConnections | undefined;
  /** Where its sockets end whose connections have moved. */
  readonly moved: MovedSockets;
  /** Why a connection cannot move by an adapter, if it cannot. */
  refuse(socket: Socket, adapter: GuardedAdapter): Refusal | undefined;
  /** Whether this process has read and written every byte of a connection so far. */
  hasAll(socket: Socket): boolean;
}

/** A connection that has a socket. */
export class OpenConnection implements Movable {
  readonly #socket: Socket;
  readonly #server: ConnectionServer;
  #undoQuiescing: (() => void) | undefined;

  readonly identity: object;

  /** @param dormant the connection as it was before it woke */
  constructor(socket: Socket, server: ConnectionServer, dormant?: Movable) {
    this.#socket = socket;
    this.#server = server;
    this.identity = dormant ?? this;
  }

  get hasEnded(): boolean {
    return this.#socket.destroyed;
  }

  /** In one turn: bytes that arrive after the adapter's look are still in the kernel, and move along. */
  freeze(id: number, bundles: boolean): FrozenConnection | Refusal | undefined {
    if (this.#socket.destroyed) return undefined;
    const obstacle = this.#server.secure?.obstacle(this.#socket);
    if (obstacle !== undefined) return obstacle === "busy" ? undefined : makeRefusal(obstacle);
    let failure: Refusal | undefined;
    for (const adapter of this.#server.adapters) {
      const frozen = this.#server.refuse(this.#socket, adapter) ?? adapter.freeze(this.#socket);
      if (frozen === undefined) continue;
      if (!("code" in frozen)) return this.#pause(adapter, frozen.state, id, bundles);
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

  #pause(
    adapter: GuardedAdapter,
    state: unknown,
    id: number,
    bundles: boolean,
  ): FrozenConnection | Refusal | undefined {
    const socket = this.#socket;
    const { label, secure } = this.#server;
    let paused: PausedSocket | undefined;
    let records: Uint8Array | undefined;
    try {
      paused = new PausedSocket(socket);
      if (secure !== undefined && (records = secure.freeze(socket)) === undefined) {
        // The adapter has written on it since the first look.
        paused.resume(reporterFor(adapter));
        return undefined;
      }
      const { unread, fd } = paused;
      const parts = { id, label, adapter, state, unread, records, fd };
      const content = (bundles ? bundled(parts) : undefined) ?? encodeConnection(parts);
      return new FrozenSocket(this, content, adapter, socket, paused, this.#server);
    } catch (error) {
      // The state is no JSON, or the adapter has closed the socket.
      paused?.resume(reporterFor(adapter));
      reportFailure(adapter, "freeze", error);
      return refusalOf(error, "ERR_ADAPTER");
    } finally {
      records?.fill(0);
    }
  }
}

/** A class, as there are thousands at a time: closures for each would cost a tenth of a move. */
class FrozenSocket implements FrozenConnection {
  readonly connection: Movable;
  readonly content: Parcel | Bundled;
  readonly #adapter: GuardedAdapter;
  readonly #socket: Socket;
  readonly #paused: PausedSocket;
  readonly #server: ConnectionServer;
  readonly #use: Use;

  constructor(
    connection: Movable,
    content: Parcel | Bundled,
    adapter: GuardedAdapter,
    socket: Socket,
    paused: PausedSocket,
    server: ConnectionServer,
  ) {
    this.#server = server;
    this.connection = connection;
    this.content = content;
    this.#adapter = adapter;
    this.#socket = socket;
    this.#paused = paused;
    // To continue a TLS connection on which another process has written would use its sequence numbers again.
    const isSecure = content.kind === SECURE_KIND;
    this.#use = new Use(paused.fd, !isSecure, !isSecure && server.hasAll(socket) ? socket : undefined);
  }

  onTaken(): void {
    this.#forgetSecrets();
    this.#adapter.moved?.(this.#socket);
    if (this.#paused.leave()) this.#server.moved.add(this.#socket, this.#paused.fd);
    else this.#paused.discard(reporterFor(this.#adapter));
  }

  onReturned(): void {
    this.#forgetSecrets();
    this.#paused.resume(reporterFor(this.#adapter));
  }

  isUntouched(): boolean {
    return this.#socket.destroyed || this.#use.isUnchanged;
  }

  onLost(): void {
    this.#forgetSecrets();
    this.#paused.discard(reporterFor(this.#adapter));
  }

  #forgetSecrets(): void {
    if (!("adapter" in this.content)) forgetSecrets(this.content);
  }
}

/** Reports the failure of a write that waited. */
function reporterFor(adapter: GuardedAdapter): (member: "write" | "end", error: unknown) => void {
  return (member, error) => reportFailure(adapter, member, error);
}
