import { withTimeout } from "../util/timeout.js";
import { deferred } from "../util/deferred.js";
import type { Exchange } from "./exchange.js";
import { Route } from "./route.js";

/** The way of a drain to other hosts. */
export interface HostsRoute {
  readonly exchange: Exchange;
  /** Whether the successor has the seat of this process. Until it resolves it is not known where units go. */
  readonly isSeatShared: Promise<boolean>;
}

/**
 * The drain of a process: its deadline, the ways on which state leaves, and whether it was rolled back. Connections, slots and
 * units of one process read one context, so that they agree on the time that is left.
 */
export class DrainContext {
  /** Leads to the successor; undefined for a process that stops. */
  readonly exchange: Exchange | undefined;
  /** Resolves at the end of the successor's probation: false if this process was rolled back to. */
  readonly confirmed: Promise<boolean>;
  /** Length of the drain, in ms. */
  readonly timeout: number;
  /** Resolves at the deadline, at {@link end} and at {@link rollBack}: no part of the drain may wait longer. */
  readonly over: Promise<void>;
  readonly #hosts: HostsRoute | undefined;
  readonly #deadline: number;
  readonly #timer: NodeJS.Timeout;
  readonly #resolveOver: () => void;
  #isExpired = false;
  #isRolledBack = false;

  /** @param timeout of the drain, in ms from now */
  constructor(
    exchange: Exchange | undefined,
    confirmed: Promise<boolean>,
    timeout: number,
    hosts?: HostsRoute,
  ) {
    this.exchange = exchange;
    this.confirmed = confirmed;
    this.timeout = timeout;
    this.#hosts = hosts;
    this.#deadline = performance.now() + timeout;
    const { promise, resolve } = deferred<void>();
    this.over = promise;
    this.#resolveOver = resolve;
    this.#timer = setTimeout(() => {
      this.#isExpired = true;
      resolve();
    }, timeout);
  }

  /** ms until the deadline; 0 once its timer has fired, which may be early by a fraction of a millisecond. */
  get remaining(): number {
    return this.#isExpired ? 0 : Math.max(0, this.#deadline - performance.now());
  }

  /** Whether the deadline has passed. */
  get isExpired(): boolean {
    return this.#isExpired;
  }

  /** Whether this process accepts again: nothing moves, ends or is destroyed. */
  get isRolledBack(): boolean {
    return this.#isRolledBack;
  }

  rollBack(): void {
    this.#isRolledBack = true;
    this.end();
  }

  /** Everything has moved or ended before the deadline. */
  end(): void {
    clearTimeout(this.#timer);
    this.#resolveOver();
  }

  /** Whether the successor takes parcels of this kind now. */
  hasTaker(kind: string, label?: string): boolean {
    return this.exchange !== undefined && this.exchange.peers(kind, label).length > 0;
  }

  /**
   * The way of the parcels of one kind and label: to the successor. State that other hosts may take goes to them if there is no
   * successor, or it does not take it.
   *
   * @param isGlobal whether other hosts may take them
   * @param timeout ms for which the caller waits. The way to other hosts is not known while the successor, or the engine, does
   *   not answer
   * @returns undefined if it is not known in time, or the drain is over before
   */
  async routeOf(kind: string, label: string, isGlobal: boolean, timeout: number): Promise<Route | undefined> {
    const hosts = isGlobal ? this.#hosts : undefined;
    if (hosts === undefined) return new Route(this.exchange, false, kind, label);
    const isSeatShared = await withTimeout(timeout, Promise.race([hosts.isSeatShared, this.over]));
    if (typeof isSeatShared !== "boolean") return undefined;
    if (isSeatShared && this.hasTaker(kind, label)) return new Route(this.exchange, false, kind, label);
    return new Route(hosts.exchange, true, kind, label);
  }

  /** The way to other hosts for what the successor has refused, as it was told to stop; undefined if there are no hosts. */
  hostsRoute(kind: string, label: string): Route | undefined {
    return this.#hosts && new Route(this.#hosts.exchange, true, kind, label);
  }

  /** Resolves when a rollback is impossible, or the drain is over. */
  async rollbackImpossible(): Promise<void> {
    await Promise.race([this.confirmed, this.over]);
  }
}
