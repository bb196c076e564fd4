import type { Server as HttpServer } from "node:http";
import type { Server, Socket } from "node:net";
import { native } from "../platform/native.js";
import { countConnection, overrideMember } from "../platform/node-internals.js";
import type { CloseStrategy } from "./adapter.js";
import type { GuardedAdapter } from "./guarded-adapter.js";
import type { FrozenConnection, Movable } from "./freeze.js";
import { SilenceWatch } from "./silence-watch.js";
import { sendCloseNotify } from "../tls/secure-connections.js";
import { bundled } from "./bundle.js";
import { encodeConnection, forgetSecrets } from "./connection-parcel.js";
import { Use } from "./use.js";

interface DormantListener {
  /**
   * A connection needs a socket; the descriptor is the listener's.
   *
   * @param expire ends it for its silence; undefined if it is not over
   */
  wake(connection: DormantConnection, isSilent: boolean, expire?: (socket: Socket) => void): void;
  /** A connection has ended. */
  ended(): void;
}

/**
 * The dormant connections of one server: adopted ones whose client has not sent a byte since. Each is a descriptor and
 * its frozen state, without a socket.
 */
export class DormantConnections implements CloseStrategy {
  readonly #server: { readonly server: Server; readonly label: string };
  readonly #listener: DormantListener;
  #silent: SilenceWatch<DormantConnection> | undefined;
  /** Offered to the successor. */
  readonly #offered = new Set<DormantConnection>();
  #closing = false;
  /** Refused by the successor. */
  readonly #staying = new Set<DormantConnection>();

  constructor(server: { readonly server: Server; readonly label: string }, listener: DormantListener) {
    this.#server = server;
    this.#listener = listener;
  }

  /** With those that are offered to the successor. */
  get size(): number {
    return (this.#silent?.size ?? 0) + this.#offered.size;
  }

  /** Those that are not offered. */
  [Symbol.iterator](): Iterator<DormantConnection> {
    return (this.#silent ?? [])[Symbol.iterator]();
  }

  /**
   * Takes a connection with its descriptor. False where the system cannot watch a set of descriptors: the connection
   * needs a socket.
   *
   * @param timeout how long, in ms, its client may be silent
   */
  adopt({ fd, state, adapter, records }: Frozen, timeout: number): boolean {
    this.#silent ??= this.#watch();
    if (this.#silent === undefined) return false;
    // A copy, which lives as long as the connection.
    const frozen = { fd, state, adapter, records: records && Uint8Array.from(records) };
    this.#silent.add(new DormantConnection(this, frozen, performance.now() + timeout));
    countConnection(this.#server.server, 1);
    return true;
  }

  /**
   * Takes connections without record layers, or none of them.
   *
   * @param timeouts how long, in ms, the client of each may be silent
   * @throws {HandoverError} `ERR_DESCRIPTOR`: the descriptors stay the caller's
   */
  adoptAll(frozen: readonly Frozen[], timeouts: readonly number[]): boolean {
    this.#silent ??= this.#watch();
    if (this.#silent === undefined) return false;
    const now = performance.now();
    this.#silent.addAll(frozen.map((one, n) => new DormantConnection(this, one, now + timeouts[n]!)));
    countConnection(this.#server.server, frozen.length);
    return true;
  }

  freeze(connection: DormantConnection, id: number, bundles: boolean): FrozenConnection | undefined {
    const { fd, state, adapter, records } = connection;
    const { label } = this.#server;
    const parts = { id, label, adapter, state, records, fd };
    const content = (bundles ? bundled(parts) : undefined) ?? encodeConnection(parts);
    if (this.#silent?.remove(connection) !== true) return undefined;
    this.#offered.add(connection);
    const use = new Use(fd, records === undefined);
    const forget = (): void => {
      if (!("adapter" in content)) forgetSecrets(content);
    };
    const end = (): void => {
      forget();
      this.#end(connection);
    };
    return {
      connection,
      content,
      onTaken: end,
      onReturned: () => {
        forget();
        this.#takeBack(connection);
      },
      isUntouched: () => !this.#offered.has(connection) || use.isUnchanged,
      onLost: end,
    };
  }

  isStaying(connection: DormantConnection): boolean {
    return this.#staying.has(connection);
  }

  markStaying(connection: DormantConnection): void {
    this.#staying.add(connection);
  }

  setClosing(closing: boolean): void {
    this.#closing = closing;
    if (!closing) this.#staying.clear();
  }

  idleConnections(): Map<DormantConnection, string> {
    const closable = [...this].filter((one) => this.#closing || this.#staying.has(one));
    return new Map(closable.map((one) => [one, ""]));
  }

  closeIdle(connection: DormantConnection): void {
    if (this.#silent?.remove(connection)) this.#closeSilent(connection);
  }

  /** Offered ones included: the successor may never answer. */
  destroyAll(): void {
    this.#destroySilent();
    for (const connection of this.#offered) this.#end(connection);
  }

  dispose(): void {
    this.#silent?.close();
  }

  /** Node's methods that close connections have to reach dormant ones too, which Node does not know. */
  #watch(): SilenceWatch<DormantConnection> | undefined {
    const silent = SilenceWatch.open<DormantConnection>({
      spoke: (connection) => this.#wake(connection, false),
      expired: (connection) => this.#expire(connection),
    });
    if (silent === undefined) return silent;
    // One of HTTP/2 has the first only, and others have none.
    const server = this.#server.server as Server & Partial<Pick<HttpServer, (typeof CLOSING)[number]>>;
    for (const name of CLOSING) {
      const close = server[name]?.bind(server);
      if (close === undefined) continue;
      overrideMember(server, name, () => {
        this.#destroySilent();
        close();
      });
    }
    return silent;
  }

  #destroySilent(): void {
    for (const connection of this) this.closeIdle(connection);
  }

  /** A connection that was destroyed meanwhile is not offered any longer. */
  #takeBack(connection: DormantConnection): void {
    if (!this.#offered.delete(connection)) return;
    try {
      this.#silent!.add(connection);
    } catch {
      // The system watches no more descriptors for this user: the connection continues with a socket.
      this.#wake(connection, true);
    }
  }

  #expire(connection: DormantConnection): void {
    const expire = connection.adapter.expire?.(connection.state);
    if (expire === undefined) this.#closeSilent(connection);
    else this.#wake(connection, true, expire);
  }

  /** The socket has keys of its own: those of this moment would be of no use but to an attacker. */
  #wake(...woken: Parameters<DormantListener["wake"]>): void {
    this.#listener.wake(...woken);
    woken[0].records?.fill(0);
  }

  #end(connection: DormantConnection): void {
    if (this.#offered.delete(connection)) this.#close(connection);
  }

  /** One that is in no other process's hands: the client of TLS learns that no attacker has cut it. */
  #closeSilent(connection: DormantConnection): void {
    const { fd, records } = connection;
    if (records !== undefined) sendCloseNotify(fd, records);
    this.#close(connection);
  }

  #close(connection: DormantConnection): void {
    connection.hasEnded = true;
    connection.records?.fill(0);
    native().close(connection.fd);
    this.#uncount();
  }

  #uncount(): void {
    countConnection(this.#server.server, -1);
    this.#listener.ended();
  }
}

/** Node's methods that close the connections of a server of HTTP. */
const CLOSING = ["closeIdleConnections", "closeAllConnections"] as const;

/** What an adopted connection is made of. */
export interface Frozen {
  readonly fd: number;
  readonly state: unknown;
  readonly adapter: GuardedAdapter;
  /** Where its record layer stands, if it has one. */
  readonly records: Uint8Array | undefined;
}

/** An adopted connection whose client has not sent a byte since. */
export class DormantConnection implements Movable, Frozen {
  readonly fd: number;
  readonly state: unknown;
  readonly adapter: GuardedAdapter;
  readonly records: Uint8Array | undefined;
  /** When its silence ends it, in ms of `performance.now()`. */
  readonly deadline: number;
  readonly identity = this;
  hasEnded = false;
  readonly #all: DormantConnections;

  constructor(all: DormantConnections, { fd, state, adapter, records }: Frozen, deadline: number) {
    this.#all = all;
    this.fd = fd;
    this.state = state;
    this.adapter = adapter;
    this.records = records;
    this.deadline = deadline;
  }

  freeze(id: number, bundles: boolean): FrozenConnection | undefined {
    return this.#all.freeze(this, id, bundles);
  }

  /** A silent connection is at rest. */
  quiesce(): void {}

  endQuiescing(): void {}

  markStaying(): void {
    this.#all.markStaying(this);
  }
}
