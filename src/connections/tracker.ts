import type { Server } from "node:net";
import type { DeliveryHandler } from "../exchange/exchange.js";
import type { ConnectionAdapter, CloseStrategy } from "./adapter.js";
import { TrackedServer } from "./tracked-server.js";

/** The live connections of all servers. */
export class Tracker {
  readonly #servers = new Map<Server, TrackedServer>();
  /** Those that do not listen any more, and may have connections. */
  readonly #closed = new Set<TrackedServer>();
  /** Of protocols on any server. */
  readonly #adapters: ConnectionAdapter[] = [];
  /** Called when the last connection has ended. */
  onEmpty: (() => void) | undefined;

  /** Watches a server's connections from now on. It must not have any yet. */
  watch(server: Server, label: string, adapter: ConnectionAdapter | undefined): void {
    const known = this.#servers.get(server);
    if (known !== undefined) {
      // It was closed, and listens again.
      known.label = label;
      this.#closed.delete(known);
      return;
    }
    const adapters = (): ConnectionAdapter[] => [
      ...(adapter === undefined ? [] : [adapter]),
      ...this.#adapters,
    ];
    const tracked = new TrackedServer(server, label, adapters, () => {
      this.#forget(tracked);
      if (this.size === 0) this.onEmpty?.();
    });
    this.#servers.set(server, tracked);
  }

  /** The program has closed a server: it is watched until its last connection has ended. */
  unwatch(server: Server): void {
    const tracked = this.#servers.get(server);
    if (tracked === undefined) return;
    this.#closed.add(tracked);
    this.#forget(tracked);
  }

  #forget(tracked: TrackedServer): void {
    if (tracked.size > 0 || !this.#closed.delete(tracked)) return;
    tracked.dispose();
    this.#servers.delete(tracked.server);
  }

  /** From now on connections of any server can move by this, too. */
  addAdapter(adapter: ConnectionAdapter): void {
    this.#adapters.push(adapter);
  }

  get servers(): readonly TrackedServer[] {
    return [...this.#servers.values()];
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
    return server?.adopt(parcel) ?? { code: "ERR_NO_TAKER" };
  };

  /** Destroys what is left. */
  destroyAll(): void {
    for (const server of this.servers) server.destroyAll();
  }

  /** Lets go of everything it has installed. */
  dispose(): void {
    for (const server of this.servers) server.dispose();
  }
}
