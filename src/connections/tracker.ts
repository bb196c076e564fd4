import type { Server } from "node:net";
import type { DeliveryHandler } from "../exchange/exchange.js";
import { makeRefusal } from "../exchange/parcel.js";
import { deferred, type Deferred } from "../util/deferred.js";
import type { ConnectionAdapter, CloseStrategy } from "./adapter.js";
import { AdapterGuard } from "./guarded-adapter.js";
import type { Movable } from "./freeze.js";
import { TrackedServer, type Connections } from "./tracked-server.js";

/** Called with each connection that may be idle now. */
type IdleHandler = (connection: Movable) => void;

/** The live connections of all servers. */
export class Tracker {
  readonly #servers = new Map<Server, TrackedServer>();
  /** Servers that no longer listen, and may have connections. */
  readonly #closed = new Set<TrackedServer>();
  /** Adapters for the connections of every server. */
  readonly #adapters: AdapterGuard[] = [];
  readonly #idleHandlers = new Set<IdleHandler>();
  /** Whether connections over TLS may move. */
  readonly #movesTls: boolean;
  #empty: Deferred<void> | undefined;

  constructor(movesTls = true) {
    this.#movesTls = movesTls;
  }

  /**
   * Watches a server's connections from now on. It must not have any yet.
   *
   * @param tls whether its connections over TLS may move
   */
  watch(server: Server, label: string, connections: Connections, tls = true): void {
    const known = this.#servers.get(server);
    if (known !== undefined) {
      // It was closed, and listens again.
      known.label = label;
      this.#closed.delete(known);
      return;
    }
    const tracked = new TrackedServer(server, label, connections, this.#movesTls && tls, {
      ended: () => this.#onEnded(tracked),
      mayBeIdle: (connection) => this.#idleHandlers.forEach((handle) => handle(connection)),
    });
    for (const one of this.#adapters) tracked.addAdapter(one);
    this.#servers.set(server, tracked);
  }

  /** The program has closed a server: it is watched until its last connection has ended. */
  unwatch(server: Server): void {
    const tracked = this.#servers.get(server);
    if (tracked === undefined) return;
    this.#closed.add(tracked);
    this.#forget(tracked);
  }

  /** Connections of any server can move by this adapter, too. */
  addAdapter(adapter: ConnectionAdapter): void {
    const guarded = new AdapterGuard(adapter);
    this.#adapters.push(guarded);
    for (const server of this.servers) server.addAdapter(guarded);
  }

  /** Calls `handle` for each connection that may be idle, until the returned function is called. */
  onMayBeIdle(handle: IdleHandler): () => void {
    this.#idleHandlers.add(handle);
    this.#reportResponses();
    return () => {
      this.#idleHandlers.delete(handle);
      this.#reportResponses();
    };
  }

  #reportResponses(): void {
    for (const server of this.servers) server.setReporting(this.#idleHandlers.size > 0);
  }

  /** Resolves when the last connection has ended. */
  async whenEmpty(): Promise<void> {
    if (this.size > 0) await (this.#empty ??= deferred()).promise;
  }

  /** Finds out whether connections over TLS can move, before any does, unless that is known. */
  prepare(): void {
    for (const { secure } of this.servers) void secure?.prepare();
  }

  get servers(): readonly TrackedServer[] {
    return [...this.#servers.values()];
  }

  /** Returns one of the connections after the other that can move, and undefined after the last one. */
  movable(): () => Movable | undefined {
    const servers = this.servers.map((server) => server.movable());
    return () => {
      for (; servers.length > 0; servers.shift()) {
        const connection = servers[0]!();
        if (connection !== undefined) return connection;
      }
      return undefined;
    };
  }

  get closeStrategies(): readonly CloseStrategy[] {
    return this.servers.flatMap((server) => server.closeStrategies);
  }

  get size(): number {
    return this.servers.reduce((sum, server) => sum + server.size, 0);
  }

  /** Takes a connection for the server whose listener has the parcel's label. */
  readonly adopt: DeliveryHandler = (parcel) => {
    const server = this.servers.find(
      ({ label, server: { listening } }) => label === parcel.label && listening,
    );
    return server?.adopt(parcel) ?? makeRefusal("ERR_NO_TAKER");
  };

  /** Destroys every connection that is left. */
  destroyAll(): void {
    for (const server of this.servers) server.destroyAll();
  }

  /** Removes everything that it has installed on the servers. */
  dispose(): void {
    for (const server of this.servers) server.dispose();
  }

  #onEnded(tracked: TrackedServer): void {
    this.#forget(tracked);
    if (this.#empty === undefined || tracked.size > 0 || this.size > 0) return;
    this.#empty.resolve();
    this.#empty = undefined;
  }

  #forget(tracked: TrackedServer): void {
    if (!this.#closed.has(tracked) || tracked.size > 0) return;
    this.#closed.delete(tracked);
    tracked.dispose();
    this.#servers.delete(tracked.server);
  }
}
