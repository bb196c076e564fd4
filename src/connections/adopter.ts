import { Socket, type Server } from "node:net";
import { HandoverError, reasonOf } from "../errors.js";
import type { TakeResult } from "../exchange/exchange.js";
import { makeRefusal, type Parcel, type Refusal } from "../exchange/parcel.js";
import { isTlsServer } from "../platform/builtins.js";
import { check, native } from "../platform/native.js";
import { allowsHalfOpen, countConnection, joinServer } from "../platform/node-internals.js";
import { hasSent, type SecureConnections } from "../tls/secure-connections.js";
import { BUNDLE_KIND, decodeBundle } from "./bundle.js";
import { decodeConnection, forgetSecrets, SECURE_KIND } from "./connection-parcel.js";
import { DormantConnection, DormantConnections, type Frozen } from "./dormant.js";
import { reportFailure, type GuardedAdapter } from "./guarded-adapter.js";
import type { Http1 } from "./http1.js";

/** The server whose connections are adopted. */
interface AdoptingServer {
  readonly server: Server;
  /** The name of its listener. */
  readonly label: string;
  readonly adapters: readonly GuardedAdapter[];
  readonly http1: Http1 | undefined;
  /** The record layers of its connections; undefined if those over TLS do not move. */
  readonly secure: SecureConnections | undefined;
}

interface AdopterListener {
  /** An adopted connection has a socket now; its adapter does not have it yet. */
  attached(socket: Socket, connection: Frozen | DormantConnection): void;
  /** A connection without a socket has ended. */
  ended(): void;
}

/**
 * Adopts the connections that move to one server: it thaws each, or keeps it dormant. From then on those with a socket are the
 * listener's.
 */
export class ConnectionAdopter {
  readonly dormant: DormantConnections;
  readonly #server: AdoptingServer;
  readonly #listener: AdopterListener;

  constructor(server: AdoptingServer, listener: AdopterListener) {
    this.#server = server;
    this.#listener = listener;
    this.dormant = new DormantConnections(server, {
      wake: (...woken) => this.#wake(...woken),
      ended: () => listener.ended(),
    });
  }

  /** Takes a connection, or a bundle of them, that the predecessor offers. */
  adopt(parcel: Parcel): TakeResult {
    try {
      return this.#adopt(parcel);
    } finally {
      forgetSecrets(parcel);
    }
  }

  #adopt({ kind, body, version, fds }: Parcel): TakeResult {
    if ((kind === SECURE_KIND) !== isTlsServer(this.#server.server)) return makeRefusal("ERR_NO_TAKER");
    if (kind === BUNDLE_KIND) return this.#adoptBundle(decodeBundle(body), version, fds);
    const { protocol, state, unread, records } = decodeConnection({ kind, body });
    const adapter = this.#adapterFor(protocol, version);
    if ("code" in adapter) return adapter;
    const [fd] = fds;
    if (fd === undefined) return makeRefusal("ERR_NO_TAKER");
    const timeout = unread === undefined ? adapter.idleTimeout?.(state) : undefined;
    const frozen = { fd, state, adapter, records };
    if (timeout !== undefined && this.dormant.adopt(frozen, timeout)) return "taken";
    // A socket closes its descriptor, and the exchange closes that of a refused parcel.
    const duplicate = check(native().duplicate(fd), "duplicate", "a connection");
    countConnection(this.#server.server, 1);
    const socket = this.#attach({ ...frozen, fd: duplicate }, unread);
    try {
      this.#thaw(socket, frozen, true);
    } catch (error) {
      // The predecessor would use the sequence numbers of what was sent again: it must not continue the connection.
      if (!hasSent(socket)) throw error;
      reportFailure(adapter, "thaw", error);
    }
    native().close(fd);
    return "taken";
  }

  /** All or none: the predecessor offers connections of a bundle that is refused one by one. */
  #adoptBundle(
    { protocol, states }: ReturnType<typeof decodeBundle>,
    version: number,
    fds: readonly number[],
  ): TakeResult {
    const adapter = this.#adapterFor(protocol, version);
    if ("code" in adapter) return adapter;
    const timeouts = states.map((state) => adapter.idleTimeout?.(state));
    if (states.length !== fds.length || timeouts.includes(undefined)) return makeRefusal("ERR_NO_TAKER");
    const frozen = states.map((state, n) => ({ fd: fds[n]!, state, adapter, records: undefined }));
    return this.dormant.adoptAll(frozen, timeouts as number[]) ? "taken" : makeRefusal("ERR_NO_TAKER");
  }

  #adapterFor(protocol: string, version: number): GuardedAdapter | Refusal {
    const { http1 } = this.#server;
    const adapters = this.#server.adapters.filter(({ name }) => name === protocol);
    if (adapters.length === 0) return makeRefusal("ERR_NO_TAKER");
    // Several WebSocket servers are adapters of one name.
    const adapter = adapters.find((one) => one.version === version);
    if (adapter === undefined) return makeRefusal("ERR_VERSION");
    return (adapter === http1 ? http1.refuse() : undefined) ?? adapter;
  }

  /** Owns the descriptor, and the place of its connection in the server's count. */
  #attach(connection: Frozen | DormantConnection, unread?: Uint8Array): Socket {
    const socket = this.#socketOn(connection);
    joinServer(this.#server.server, socket);
    if (unread !== undefined) socket.unshift(unread);
    this.#listener.attached(socket, connection);
    return socket;
  }

  /** To throw is to refuse. */
  #thaw(socket: Socket, { adapter, state }: Frozen, isSilent: boolean): void {
    try {
      adapter.thaw(socket, state, this.#server.server, isSilent);
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** A constructor that throws leaves the descriptor open, and its client would wait for an answer. */
  #socketOn({ fd, records }: Frozen): Socket {
    const { server, secure } = this.#server;
    const options = { fd, readable: true, writable: true, allowHalfOpen: allowsHalfOpen(server) };
    try {
      return records === undefined ? new Socket(options) : secure!.thaw(records, options);
    } catch (cause) {
      native().close(fd);
      countConnection(server, -1);
      this.#listener.ended();
      const message = `cannot make a socket of a connection: ${reasonOf(cause)}`;
      throw new HandoverError("ERR_DESCRIPTOR", message, { cause });
    }
  }

  /** It is too late for a refusal. An exception would end the process, and every other connection with it. */
  #wake(connection: DormantConnection, isSilent: boolean, expire?: (socket: Socket) => void): void {
    try {
      const socket = this.#attach(connection);
      this.#thaw(socket, connection, isSilent);
      if (this.dormant.isStaying(connection)) this.#server.http1?.markStaying(socket);
      expire?.(socket);
    } catch (error) {
      reportFailure(connection.adapter, "thaw", error);
    }
  }
}
