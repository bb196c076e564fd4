import type { Server, Socket } from "node:net";
import type { TakeResult } from "../exchange/exchange.js";
import type { Parcel, Refusal } from "../exchange/parcel.js";
import { isTlsServer } from "../platform/builtins.js";
import { isKnownTls } from "../platform/tls-internals.js";
import { SecureConnections } from "../tls/secure-connections.js";
import { acceptedBy, wrapMember } from "../platform/node-internals.js";
import type { CloseStrategy, ConnectionAdapter } from "./adapter.js";
import { ConnectionAdopter } from "./adopter.js";
import { DormantConnection, type DormantConnections, type Frozen } from "./dormant.js";
import { AdapterGuard, type GuardedAdapter } from "./guarded-adapter.js";
import { HttpConnections } from "./http-connections.js";
import { Http1, INTERCEPTED, speaksHttp1, type Http1Connections } from "./http1.js";
import { Http2Sessions } from "./http2.js";
import { type Movable, OpenConnection } from "./freeze.js";
import { MovedSockets } from "./moved-sockets.js";
import { onClose } from "../util/on-close.js";
import { UnregisteredWebSockets } from "./unregistered-web-sockets.js";

/** How the connections of a server move: by an adapter, not at all, or by default. */
export type Connections = ConnectionAdapter | HttpConnections | false | undefined;

interface TrackedServerListener {
  /** A connection has ended. */
  ended(): void;
  /** A response has ended, so its connection may be idle. */
  mayBeIdle(connection: Movable): void;
}

/** The live connections of one server: those that it accepted, and those that it has adopted. */
export class TrackedServer {
  readonly server: Server;
  /** The name of its listener, by which the successor finds its own. */
  label: string;
  readonly http1: Http1 | undefined;
  readonly http2: Http2Sessions;
  readonly webSockets: UnregisteredWebSockets | undefined;
  /** When each was accepted, in ms of `performance.now()`; {@link NOT_HTTP} for one that another adapter has adopted. */
  readonly #open = new Map<Socket, number>();
  /** Made when they are to move. */
  readonly #movables = new Map<Socket, OpenConnection>();
  /** The record layers of its connections, if those over TLS move. */
  readonly secure: SecureConnections | undefined;
  /** TLS sockets, as the program sees them, and when the handshake of each ended, as in {@link #open}. */
  readonly #secure = new Map<Socket, number>();
  /** The sockets of connections that another process had before. */
  readonly #adopted = new WeakSet<Socket>();
  #moved: MovedSockets | undefined;
  /** Made for the first connection that is offered. */
  #adopter: ConnectionAdopter | undefined;
  /** The adapters by which its connections move. */
  readonly adapters: GuardedAdapter[] = [];
  /** The program's own adapters: they also close connections over TLS. */
  readonly #ownAdapters: GuardedAdapter[] = [];
  readonly #listener: TrackedServerListener;

  readonly #onClose = onClose((socket) => this.#forget(socket));
  readonly #forHttp1: Http1Connections = {
    sockets: () => new Set([...this.#open.keys(), ...this.#secure.keys()]),
    acceptedAt: (socket) => {
      const accepted = this.#secure.get(socket) ?? this.#open.get(socket);
      return accepted === NOT_HTTP ? undefined : accepted;
    },
    responded: (socket) => {
      if (this.#open.has(socket) || this.#secure.has(socket))
        this.#listener.mayBeIdle(this.#movableOf(socket));
    },
  };

  /** The adapter that the program has chosen for this server. */
  readonly #chosen: GuardedAdapter | undefined;
  readonly #moves: boolean;
  readonly #restoreEmit: (() => void) | undefined;

  /** @param movesTls whether connections over TLS may move */
  constructor(
    server: Server,
    label: string,
    connections: Connections,
    movesTls: boolean,
    listener: TrackedServerListener,
  ) {
    this.server = server;
    const isTls = isTlsServer(server);
    this.#moves = connections !== false && (!isTls || (movesTls && isKnownTls()));
    this.secure = isTls && this.#moves ? new SecureConnections(server) : undefined;
    const program = connections instanceof HttpConnections ? connections : undefined;
    this.label = label;
    this.#listener = listener;
    this.http1 = speaksHttp1(server) ? new Http1(server, program, this.#forHttp1) : undefined;
    if (this.http1 !== undefined && this.#moves) this.adapters.push(this.http1);
    if (program !== undefined) {
      this.#chosen = this.http1;
    } else if (typeof connections === "object") {
      this.#chosen = new AdapterGuard(connections as ConnectionAdapter);
      this.addAdapter(this.#chosen);
    }
    this.http2 = new Http2Sessions(server);
    this.webSockets = this.http1 === undefined ? undefined : new UnregisteredWebSockets(server);
    server.prependListener("connection", this.#onConnection);
    this.#restoreEmit = Object.hasOwn(server, "emit") ? this.#wrapEmit() : undefined;
    if (isTls) server.prependListener("secureConnection", this.#onSecureConnection);
  }

  /** Lets its connections move and close by a further adapter. */
  addAdapter(adapter: GuardedAdapter): void {
    this.#ownAdapters.push(adapter);
    if (this.#moves) this.adapters.push(adapter);
  }

  /** Why a connection cannot move by an adapter, if it cannot. */
  refuse(socket: Socket, adapter: GuardedAdapter): Refusal | undefined {
    return adapter !== this.#chosen && this.http1?.isIntercepted(socket) ? INTERCEPTED : undefined;
  }

  /** Whether this process has read and written every byte of a connection so far. */
  hasAll(socket: Socket): boolean {
    return acceptedBy(socket) === this.server && !this.#adopted.has(socket);
  }

  /**
   * Returns one of the connections after the other that can move now, the dormant ones first, without those that end meanwhile;
   * and undefined after the last one. Not an iterator: its results would be a tenth of the memory that a move takes.
   */
  movable(): () => Movable | undefined {
    if (this.adapters.length === 0) return () => undefined;
    const sockets = [...this.#visible];
    const dormant = [...(this.#dormant ?? [])];
    let next = 0;
    return () => {
      if (next < dormant.length) return dormant[next++];
      for (;;) {
        const socket = sockets[next++ - dormant.length];
        if (socket === undefined || !socket.destroyed) return socket && this.#movableOf(socket);
      }
    };
  }

  get #dormant(): DormantConnections | undefined {
    return this.#adopter?.dormant;
  }

  /** The sockets that the program sees. */
  get #visible(): Iterable<Socket> {
    return isTlsServer(this.server) ? this.#secure.keys() : this.#open.keys();
  }

  /** Made when connections move. */
  get moved(): MovedSockets {
    return (this.#moved ??= new MovedSockets(this.server, (socket) => this.#forget(socket)));
  }

  get size(): number {
    return this.#open.size + (this.#dormant?.size ?? 0);
  }

  get closeStrategies(): readonly CloseStrategy[] {
    return [this.http1, this.webSockets, this.http2, this.#dormant].filter((one) => one !== undefined);
  }

  /** Reports the end of each response of HTTP/1.1, or no longer. */
  setReporting(reporting: boolean): void {
    this.http1?.setReporting(reporting && this.adapters.length > 0);
  }

  /** Asks the adapters to close a part of the connections, at most 1, in their protocol's own way. */
  closeFraction(part: number): void {
    const sockets = [...this.#visible];
    let left = Math.ceil(sockets.length * part);
    for (const socket of sockets) {
      if (left === 0) return;
      const isClosed = this.#ownAdapters.some((adapter) => adapter.close?.(socket));
      if (isClosed || this.webSockets?.close(socket)) left--;
    }
  }

  /** Takes a connection, or a bundle of them, that the predecessor offers. */
  adopt(parcel: Parcel): TakeResult {
    this.#adopter ??= new ConnectionAdopter(this, {
      attached: (socket, connection) => this.#onAttached(socket, connection),
      ended: () => this.#listener.ended(),
    });
    return this.#adopter.adopt(parcel);
  }

  destroyAll(): void {
    for (const socket of this.#open.keys()) socket.destroy();
    this.#dormant?.destroyAll();
  }

  dispose(): void {
    this.server.removeListener("connection", this.#onConnection);
    this.#restoreEmit?.();
    this.server.removeListener("secureConnection", this.#onSecureConnection);
    this.secure?.dispose();
    this.http1?.dispose();
    this.http2.dispose();
    this.webSockets?.dispose();
    this.#dormant?.dispose();
  }

  readonly #onConnection = (socket: Socket): void => {
    // A program that has read the first bytes may emit the event again.
    if ((this.#open.get(socket) ?? NOT_HTTP) !== NOT_HTTP) return;
    this.#track(socket, Math.trunc(performance.now()));
    // A TLS connection is HTTP's with its secure socket: its client may never begin a handshake.
    if (!isTlsServer(this.server)) this.http1?.add(socket);
  };

  /** A program that has replaced `emit` may give no connection to the listeners: a drain would not wait for it. */
  #wrapEmit(): () => void {
    return wrapMember(this.server, "emit", (emit) => (...args) => {
      if (args[0] === "connection") this.#onConnection(args[1] as Socket);
      return emit(...args);
    });
  }

  readonly #onSecureConnection = (socket: Socket): void => {
    this.http1?.add(socket);
    const accepted = this.#secure.get(socket);
    if ((accepted ?? NOT_HTTP) !== NOT_HTTP) return;
    // An adopted one has the listener already.
    if (accepted === undefined) socket.on("close", this.#onClose);
    this.#secure.set(socket, Math.trunc(performance.now()));
  };

  #forget(socket: Socket): void {
    this.#secure.delete(socket);
    this.#movables.delete(socket);
    if (this.#open.delete(socket)) this.#listener.ended();
  }

  #track(socket: Socket, accepted: number): void {
    if (!this.#open.has(socket)) socket.on("close", this.#onClose);
    this.#open.set(socket, accepted);
  }

  /** Of an adopted connection. */
  #onAttached(socket: Socket, connection: Frozen | DormantConnection): void {
    this.#adopted.add(socket);
    this.#track(socket, NOT_HTTP);
    if (connection.records !== undefined) this.#secure.set(socket, NOT_HTTP);
    // A connection that was refused is not offered again when it wakes.
    if (connection instanceof DormantConnection)
      this.#movables.set(socket, new OpenConnection(socket, this, connection));
  }

  #movableOf(socket: Socket): OpenConnection {
    const known = this.#movables.get(socket);
    if (known !== undefined) return known;
    const movable = new OpenConnection(socket, this);
    this.#movables.set(socket, movable);
    return movable;
  }
}

/** Instead of the time at which a connection was accepted. */
const NOT_HTTP = -1;
