import type { ConnectionSummary } from "../events.js";
import type { DrainContext } from "../exchange/drain-context.js";
import { ConnectionMover } from "./mover.js";
import type { CloseStrategy } from "./adapter.js";
import type { Tracker } from "./tracker.js";
import { CONNECTION_KIND } from "./connection-parcel.js";
import { warnOfUnregistered } from "./unregistered-web-sockets.js";

/**
 * The drain of a process's connections. Connections that can move are offered to the successor, where there is one. The
 * others are asked to close by their protocol. One that is idle at two looks, {@link LOOK_EVERY} ms apart, is closed.
 * Shortly before the deadline the HTTP/2 sessions that are left are closed: their clients learn which streams were
 * served. At the deadline every connection that is left is destroyed.
 *
 * Idle connections are not closed at once, as a request may be on its way to each: of 200 keep-alive clients,
 * 125 to 169 saw a reset in every upgrade that did.
 */
export class Drain {
  /** Resolves when no connection is left. */
  readonly done: Promise<ConnectionSummary>;
  readonly #tracker: Tracker;
  readonly #context: DrainContext;
  readonly #mover: ConnectionMover | undefined;
  #timer: NodeJS.Timeout | undefined;
  #lastCall: NodeJS.Timeout | undefined;
  readonly #looks = new Map<CloseStrategy, ReadonlyMap<unknown, string>>();
  #immediate: NodeJS.Immediate | undefined;
  #finish!: (drained: ConnectionSummary) => void;
  #summary: ConnectionSummary | undefined;
  #isCancelled = false;

  /** Begins at once, and ends at the deadline of `context` at the latest. */
  constructor(tracker: Tracker, context: DrainContext) {
    this.#tracker = tracker;
    this.#context = context;
    this.done = new Promise((resolve) => (this.#finish = resolve));
    this.#setClosing();
    if (tracker.size === 0) {
      this.#end();
    } else {
      void tracker.whenEmpty().then(() => this.#end());
      void context.over.then(() => this.#onOver());
      this.#timer = setInterval(() => this.#lookSoon(), LOOK_EVERY);
      const beforeDeadline = Math.min(LAST_CALL, LAST_PART * context.timeout);
      // A whole number: at the first other one V8 gives every timer a new shape, also those of thousands of sockets.
      const untilLastCall = Math.trunc(context.remaining - beforeDeadline);
      this.#lastCall = setTimeout(() => this.#closeSessions(), untilLastCall);
      this.#mover =
        context.exchange === undefined ? undefined : new ConnectionMover(tracker, context.exchange);
      this.#look();
    }
  }

  /** Connections that have moved so far. */
  get moved(): number {
    return this.#mover?.counts.moved ?? 0;
  }

  /** Resolves when the connections that were idle at the beginning have moved. */
  get swept(): Promise<void> {
    return this.#mover?.swept ?? Promise.resolve();
  }

  /** Ends the drain and keeps the connections; {@link done} stays pending. */
  cancel(): void {
    this.#isCancelled = true;
    this.#stop();
    for (const strategy of this.#tracker.closeStrategies) strategy.setClosing(false);
  }

  get #hasTaker(): boolean {
    return this.#context.hasTaker(CONNECTION_KIND);
  }

  /** A connection that may move is not asked to close, as long as a successor takes connections. */
  #setClosing(): void {
    for (const server of this.#tracker.servers) {
      const moves = this.#hasTaker && server.adapters.length > 0;
      for (const strategy of server.closeStrategies) strategy.setClosing(!moves || strategy === server.http2);
    }
  }

  #end(): void {
    if (this.#isCancelled) return;
    this.#stop();
    this.#finish(this.#summary ?? this.#summarize());
  }

  #stop(): void {
    this.#mover?.stop();
    clearInterval(this.#timer);
    clearTimeout(this.#lastCall);
    clearImmediate(this.#immediate);
  }

  /** If the drain ended now. */
  #summarize(): ConnectionSummary {
    const { moved, stayed } = this.#mover?.counts ?? { moved: 0, stayed: {} };
    const { offered = 0, lost = 0 } = this.#mover ?? {};
    const destroyed = this.#tracker.size - offered;
    return { moved, stayed: { ...stayed }, destroyed, unsettled: offered + lost };
  }

  #closeSessions(): void {
    for (const { http2 } of this.#tracker.servers) http2.closeAll();
  }

  /** Counted before they are destroyed: with the last one the drain ends within this call. */
  #onOver(): void {
    if (!this.#context.isExpired) return;
    this.#summary = this.#summarize();
    this.#tracker.destroyAll();
  }

  /** A few at every look: clients that all reconnect at once would overload the successor. */
  #closeSome(): void {
    const { remaining, timeout } = this.#context;
    const elapsed = 1 - remaining / timeout;
    if (elapsed < (this.#hasTaker ? CLOSE_FROM : 0)) return;
    const looks = Math.max(1, ((CLOSE_UNTIL - elapsed) * timeout) / LOOK_EVERY);
    for (const server of this.#tracker.servers) server.closeFraction(1 / looks);
  }

  /** After this turn's input has been read: a connection whose request has arrived is not idle. */
  #lookSoon(): void {
    this.#immediate = setImmediate(() => {
      if (this.#hasTaker) this.#warn();
      this.#look();
    });
  }

  /** Of WebSockets that have had the time to move, and could if a program's adapter knew them. */
  #warn(): void {
    const counts = this.#tracker.servers
      .filter(({ adapters }) => adapters.length > 0)
      .map(({ webSockets }) => webSockets?.open.length ?? 0);
    warnOfUnregistered(counts.reduce((sum, count) => sum + count, 0));
  }

  #look(): void {
    if (!this.#hasTaker) this.#setClosing();
    this.#closeSome();
    for (const strategy of this.#tracker.closeStrategies) {
      const before = this.#looks.get(strategy);
      const now = strategy.idleConnections();
      this.#looks.set(strategy, now);
      for (const [connection, mark] of now) {
        if (before?.get(connection) === mark) strategy.closeIdle(connection);
      }
    }
  }
}

/** The part of a drain after which connections that should move, but do not, are closed; and by which all are. */
const CLOSE_FROM = 0.5;
const CLOSE_UNTIL = 0.9;

/** How long before the deadline sessions are closed, at most: in ms, and as a part of the drain. */
const LAST_CALL = 1_000;
const LAST_PART = 0.1;

/** ms */
const LOOK_EVERY = 1_000;
