import type { MoveCounts } from "../events.js";
import type { Socket } from "node:net";
import type { Exchange } from "../exchange/exchange.js";
import type { Settlement } from "../exchange/parcel.js";
import { deferred } from "../util/deferred.js";
import { freeze, CONNECTION_KIND, type FrozenConnection } from "./freeze.js";
import type { DormantConnection } from "./dormant.js";
import type { TrackedServer } from "./tracked-server.js";
import type { Tracker } from "./tracker.js";

/**
 * Hands the connections of a replaced process to its successor: the idle ones at once, in batches; the others
 * when they become idle. One that is refused stays, and is told to close.
 */
export class ConnectionMover {
  readonly counts: MoveCounts = { moved: 0, stayed: {} };
  readonly #tracker: Tracker;
  readonly #exchange: Exchange;
  /** Those that may be idle, with their servers. What is taken out of it is sent, or is not idle. */
  readonly #candidates = new Map<Socket | DormantConnection, TrackedServer>();
  /** Those that are offered. */
  readonly #offered = new Set<Socket | DormantConnection>();
  /** Those that the successor does not want. */
  readonly #staying = new WeakSet<Socket | DormantConnection>();
  /** Those that are being brought to rest, and how that is undone. */
  readonly #quiescing = new Map<Socket, () => void>();
  readonly #timer: NodeJS.Timeout;
  #first: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  /** Batches that are not settled. */
  #unsettled = 0;
  /** Of the next parcel. */
  #id = 0;
  readonly #swept = deferred<void>();

  /** Begins at once. */
  constructor(tracker: Tracker, exchange: Exchange) {
    this.#tracker = tracker;
    this.#exchange = exchange;
    for (const server of this.#movable()) {
      if (server.http1 !== undefined) server.http1.onResponse = (socket) => this.#reconsider(socket, server);
    }
    this.#timer = setInterval(() => this.#lookAtAll(), LOOK_EVERY);
    this.#lookAtAll();
  }

  /** Resolves when those that were idle at the beginning have left, or it is over. */
  get swept(): Promise<void> {
    return this.#swept.promise;
  }

  /** What is not settled is reported by the exchange, in its own time. */
  stop(): void {
    this.#swept.resolve();
    clearInterval(this.#timer);
    clearTimeout(this.#first);
    clearImmediate(this.#immediate);
    for (const server of this.#movable()) if (server.http1 !== undefined) server.http1.onResponse = undefined;
    this.#candidates.clear();
    this.#endAllQuiescing();
  }

  #movable(): TrackedServer[] {
    return this.#tracker.servers.filter(({ adapters }) => adapters.length > 0);
  }

  /** Unless those of the last look are still leaving. */
  #lookAtAll(): void {
    if (this.#exchange.peers(CONNECTION_KIND).length === 0) return this.#endAllQuiescing();
    if (this.#candidates.size > 0) return;
    for (const server of this.#movable()) {
      for (const dormant of server.dormant) this.#consider(dormant, server);
      for (const socket of server.sockets) this.#consider(socket, server);
    }
    // Of thousands in another round of the event loop: to look at them has taken long enough.
    if (this.#candidates.size > MANY) this.#first = setTimeout(() => this.#send(), 0);
    else this.#send();
  }

  /** In the next turn: at the end of a response Node has not looked for the next request yet. */
  #reconsider(socket: Socket, server: TrackedServer): void {
    this.#consider(socket, server);
    this.#immediate ??= setImmediate(() => {
      this.#immediate = undefined;
      this.#send();
    });
  }

  #consider(connection: Socket | DormantConnection, server: TrackedServer): void {
    if (!this.#staying.has(connection) && !this.#offered.has(connection))
      this.#candidates.set(connection, server);
  }

  /** As long as there are candidates, and room in the window. */
  #send(): void {
    while (this.#unsettled < WINDOW && this.#candidates.size > 0) {
      const batch: FrozenConnection[] = [];
      this.#fill(batch);
      if (batch.length > 0) void this.#offer(batch);
    }
    if (this.#unsettled === 0) this.#swept.resolve();
  }

  async #offer(batch: readonly FrozenConnection[]): Promise<void> {
    this.#unsettled++;
    const offered = this.#exchange.offer(batch.map(({ parcel }) => parcel));
    const settlements = await Promise.all(offered.map(({ settled }) => settled));
    this.#unsettled--;
    batch.forEach((frozen, n) => this.#settle(frozen, settlements[n]!));
    this.#send();
  }

  #fill(batch: FrozenConnection[]): void {
    let size = 0;
    for (const [connection, server] of this.#candidates) {
      if (batch.length === BATCH || size > BATCH_SIZE) return;
      this.#candidates.delete(connection);
      const frozen = this.#tryFreeze(connection, server);
      if (frozen === undefined) continue;
      size += frozen.parcel.body.length;
      this.#offered.add(connection);
      batch.push(frozen);
    }
  }

  #tryFreeze(connection: Socket | DormantConnection, server: TrackedServer): FrozenConnection | undefined {
    try {
      const frozen = freeze(connection, server, this.#id);
      if (frozen === undefined) return this.#quiesce(connection, server);
      this.#id++;
      if (frozen.parcel.body.length <= LARGEST) return frozen;
      this.#settle(frozen, { how: "refused", code: "ERR_TOO_LARGE" });
    } catch (error) {
      // The adapter's own: its connection stays, and whoever reads the report is told.
      this.#countStaying(connection, (error as { code?: string }).code ?? "ERR_ADAPTER");
    }
    return undefined;
  }

  #quiesce(connection: Socket | DormantConnection, server: TrackedServer): undefined {
    if ("fd" in connection || connection.destroyed || this.#quiescing.has(connection)) return;
    for (const adapter of server.adapters) {
      const undo = adapter.quiesce?.(connection, () => this.#reconsider(connection, server));
      if (undo === undefined) continue;
      this.#quiescing.set(connection, undo);
      connection.once("close", () => this.#quiescing.delete(connection));
      return;
    }
  }

  #endQuiescing(connection: Socket | DormantConnection): void {
    if ("fd" in connection) return;
    this.#quiescing.get(connection)?.();
    this.#quiescing.delete(connection);
  }

  #endAllQuiescing(): void {
    for (const socket of this.#quiescing.keys()) this.#endQuiescing(socket);
  }

  #settle(
    { connection, onTaken: gone, onReturned: back, onRefused: keep }: FrozenConnection,
    settlement: Settlement,
  ): void {
    this.#offered.delete(connection);
    if (settlement.how === "taken") {
      this.counts.moved++;
      return gone();
    }
    back();
    if (settlement.how !== "refused") return;
    this.#countStaying(connection, settlement.code);
    keep();
  }

  #countStaying(connection: Socket | DormantConnection, code: string): void {
    const { stayed } = this.counts;
    stayed[code] = (stayed[code] ?? 0) + 1;
    this.#staying.add(connection);
    this.#endQuiescing(connection);
  }
}

/**
 * Batches that may be unsettled: it bounds what is nowhere, sent and not yet taken. A small one keeps the gap of each
 * short; with one more than one the next is on its way while one is being answered.
 */
const WINDOW = 2;

/** Connections that take more than a few milliseconds to look at. */
const MANY = 1_000;

/** Connections in one offer, and bytes of what travels with them. */
const BATCH = 64;
const BATCH_SIZE = 48 * 1024;

/** Bytes of what travels with one connection: it waits for them. */
const LARGEST = 16 * 1024 * 1024;

/** ms: for those that became idle without anybody telling. */
const LOOK_EVERY = 50;
