import type { RefusalCode } from "../errors.js";
import type { MoveCounts } from "../events.js";
import type { Exchange } from "../exchange/exchange.js";
import { makeRefusal, type Settlement } from "../exchange/parcel.js";
import { deferred } from "../util/deferred.js";
import type { FrozenConnection, Movable } from "./freeze.js";
import type { Tracker } from "./tracker.js";
import { BUNDLE_KIND, pack } from "./bundle.js";
import { CONNECTION_KIND } from "./connection-parcel.js";

/**
 * Moves the connections of a replaced process to its successor: the idle ones at once, in batches; the others
 * when they become idle. One that is refused stays, and is asked to close. One that a dead successor has used is closed.
 *
 * A process that goes on serving moves some of its idle connections: it stops to read from no busy one, and asks none to close.
 */
export class ConnectionMover {
  readonly counts: MoveCounts = { moved: 0, stayed: {} };
  readonly #tracker: Tracker;
  readonly #exchange: Exchange;
  /** Connections that move at most; Infinity: the process is replaced. */
  readonly #most: number;
  /** Connections of the last look that were not visited yet. */
  #unvisited: (() => Movable | undefined) | undefined;
  /** Connections that were reported since, as they may be idle. */
  readonly #candidates = new Set<Movable>();
  readonly #offered = new Set<Movable>();
  /** The identities of connections that do not move: refused by the successor, or with an adapter that failed. */
  readonly #staying = new WeakSet<object>();
  readonly #unsubscribe: () => void;
  readonly #timer: NodeJS.Timeout;
  #immediate: NodeJS.Immediate | undefined;
  /** Batches that are not settled. */
  #unsettled = 0;
  /** Of the next parcel. */
  #id = 0;
  readonly #swept = deferred<void>();
  readonly #settled = deferred<void>();
  #lost = 0;
  /** Whether connections may travel in bundles: until one is refused. */
  #bundles = true;
  #isStopped = false;

  /**
   * Begins at once.
   *
   * @param most how many connections a process that goes on serving moves; by default all of a process that is replaced
   */
  constructor(tracker: Tracker, exchange: Exchange, most = Infinity) {
    this.#tracker = tracker;
    this.#exchange = exchange;
    this.#most = most;
    this.#unsubscribe = tracker.onMayBeIdle((connection) => this.#reconsider(connection));
    tracker.prepare();
    this.#timer = setInterval(() => this.#lookAtAll(), LOOK_EVERY);
    this.#lookAtAll();
  }

  /** Connections whose settlement is lost: the successor may have them, and they do not continue here. */
  get lost(): number {
    return this.#lost;
  }

  /** Connections that are offered, and are still open here. */
  get offered(): number {
    return [...this.#offered].filter(({ hasEnded }) => !hasEnded).length;
  }

  /** Resolves when the connections that were idle at the beginning have moved, or at {@link stop}. */
  get swept(): Promise<void> {
    return this.#swept.promise;
  }

  /** Resolves when as many as may move have moved, or after {@link stop}, and no offer is open. */
  get settled(): Promise<void> {
    return this.#settled.promise;
  }

  /** Offers nothing from now on. Open offers are still settled by the exchange. */
  stop(): void {
    this.#isStopped = true;
    this.#resolveIfSettled();
    this.#swept.resolve();
    this.#unsubscribe();
    clearInterval(this.#timer);
    clearImmediate(this.#immediate);
    this.#immediate = undefined;
    this.#unvisited = undefined;
    this.#candidates.clear();
    this.#endAllQuiescing();
  }

  /** Unless connections of the last look are left. */
  #lookAtAll(): void {
    if (this.#exchange.peers(CONNECTION_KIND).length === 0) return this.#endAllQuiescing();
    this.#unvisited ??= this.#tracker.movable();
    this.#send();
  }

  /** In the next turn: at the end of a response Node has not looked for the next request yet. */
  #reconsider(connection: Movable): void {
    // An adapter may report a connection after it was told to stop quiescing.
    if (this.#isStopped || !this.#mayMove(connection)) return;
    this.#candidates.add(connection);
    this.#sendLater();
  }

  #sendLater(): void {
    this.#immediate ??= setImmediate(() => {
      this.#immediate = undefined;
      this.#send();
    });
  }

  #mayMove(connection: Movable): boolean {
    return !this.#staying.has(connection.identity) && !this.#offered.has(connection);
  }

  /** Until every connection is visited, or {@link WINDOW} batches are unsettled. It continues later if that takes long. */
  #send(): void {
    const end = performance.now() + SLICE;
    while (
      this.#unsettled < WINDOW &&
      this.#room > 0 &&
      (this.#candidates.size > 0 || this.#unvisited !== undefined)
    ) {
      const batch = this.#fillBatch();
      if (batch.length > 0) void this.#offer(batch);
      // Not before: each turn makes progress, however busy the machine is.
      if (performance.now() >= end) return this.#sendLater();
    }
    if (this.#unsettled === 0) this.#swept.resolve();
    this.#resolveIfSettled();
  }

  /** Connections that may still be offered. */
  get #room(): number {
    return this.#most - this.counts.moved - this.#lost - this.#offered.size;
  }

  get #isDrain(): boolean {
    return this.#most === Infinity;
  }

  #resolveIfSettled(): void {
    if (this.#unsettled === 0 && (this.#isStopped || this.#room <= 0)) this.#settled.resolve();
  }

  async #offer(batch: readonly FrozenConnection[]): Promise<void> {
    this.#unsettled++;
    const packed = pack(batch, () => this.#id++);
    const offered = this.#exchange.offer(packed.map(({ parcel }) => parcel));
    const settlements = await Promise.all(offered.map(({ settled }) => settled));
    this.#unsettled--;
    packed.forEach(({ parcel, members }, n) => {
      const settlement = settlements[n]!;
      if (parcel.kind === BUNDLE_KIND && mayBeOfOne(settlement)) this.#unbundle(members);
      else for (const frozen of members) this.#settle(frozen, settlement);
    });
    // In a turn of its own: those of the settlements would take longer than a slice.
    this.#sendLater();
  }

  /** The successor says of each connection why it refuses it, or takes it. */
  #unbundle(members: readonly FrozenConnection[]): void {
    this.#bundles = false;
    for (const frozen of members) {
      this.#offered.delete(frozen.connection);
      frozen.onReturned();
      if (!this.#isStopped) this.#candidates.add(frozen.connection);
    }
  }

  /** May be empty although connections are left. */
  #fillBatch(): FrozenConnection[] {
    const batch: FrozenConnection[] = [];
    let size = 0;
    const bundles = this.#bundles && this.#exchange.peers(BUNDLE_KIND).length > 0;
    for (let visited = 0; visited < VISITS && batch.length < BATCH && size <= BATCH_SIZE; visited++) {
      if (this.#room <= 0) break;
      const connection = this.#next();
      if (connection === undefined) break;
      const frozen = this.#tryFreeze(connection, bundles);
      if (frozen === undefined) continue;
      size += sizeOf(frozen);
      this.#offered.add(connection);
      batch.push(frozen);
    }
    return batch;
  }

  #next(): Movable | undefined {
    if (this.#candidates.size > 0) {
      const [first] = this.#candidates;
      this.#candidates.delete(first!);
      return first;
    }
    for (;;) {
      const next = this.#unvisited?.();
      if (next === undefined) break;
      if (this.#mayMove(next)) return next;
    }
    this.#unvisited = undefined;
    return undefined;
  }

  #tryFreeze(connection: Movable, bundles: boolean): FrozenConnection | undefined {
    const frozen = connection.freeze(this.#id, bundles);
    if (frozen === undefined) {
      if (this.#isDrain) connection.quiesce(() => this.#reconsider(connection));
      return undefined;
    }
    if ("code" in frozen) {
      this.#stay(connection, frozen.code);
      return undefined;
    }
    this.#id++;
    if (sizeOf(frozen) <= LARGEST) return frozen;
    this.#settle(frozen, { how: "refused", ...makeRefusal("ERR_TOO_LARGE") });
    return undefined;
  }

  /** A successor that has died may have answered on the connection: to continue from before would answer twice. */
  #settle(frozen: FrozenConnection, settlement: Settlement): void {
    const { connection } = frozen;
    this.#offered.delete(connection);
    if (settlement.how === "taken" || settlement.how === "lost") {
      if (settlement.how === "taken") this.counts.moved++;
      else this.#lost++;
      return frozen.onTaken();
    }
    if (settlement.how === "withdrawn" && settlement.died && !frozen.isUntouched()) {
      this.#count(HALF_MOVED);
      return frozen.onLost();
    }
    frozen.onReturned();
    if (settlement.how === "refused") this.#stay(connection, settlement.code);
  }

  #stay(connection: Movable, code: string): void {
    this.#count(code);
    this.#staying.add(connection.identity);
    if (!this.#isDrain) return;
    connection.endQuiescing();
    connection.markStaying();
  }

  #count(code: string): void {
    const { stayed } = this.counts;
    stayed[code] = (stayed[code] ?? 0) + 1;
  }

  #endAllQuiescing(): void {
    if (!this.#isDrain) return;
    const next = this.#tracker.movable();
    for (let connection = next(); connection !== undefined; connection = next()) connection.endQuiescing();
  }
}

/**
 * Batches that may be unsettled: it limits the connections in flight, sent but not yet acknowledged. A small one keeps
 * the gap of each connection short; two let the next one travel while the first is being answered.
 */
const WINDOW = 2;

/** Bytes of its body, or characters of its state in a bundle. */
function sizeOf({ content }: FrozenConnection): number {
  return "adapter" in content ? content.state.length : content.body.length;
}

/** Whether a bundle may have been refused because of a single member. The other reasons are those of its server and adapter. */
function mayBeOfOne(settlement: Settlement): boolean {
  return settlement.how === "refused" && !["ERR_INTERCEPTED", "ERR_VERSION"].includes(settlement.code);
}

const HALF_MOVED: RefusalCode = "ERR_HALF_MOVED";

/** ms of one turn, after which no batch is begun: other work of the event loop comes in between. */
const SLICE = 2;

/** Connections that are visited for one batch: most may be busy. */
const VISITS = 512;

/** Connections in one offer, and bytes of their bodies. */
const BATCH = 64;
const BATCH_SIZE = 48 * 1024;

/** Bytes of one connection's body: the connection waits while they are sent. */
const LARGEST = 16 * 1024 * 1024;

/** ms: for connections that become idle without a notification. */
const LOOK_EVERY = 50;
