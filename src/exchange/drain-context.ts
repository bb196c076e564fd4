import { deferred } from "../util/deferred.js";
import type { Exchange, Offered } from "./exchange.js";
import type { Parcel } from "./parcel.js";

/**
 * The drain of a process: its deadline, the way to the successor, and whether it was rolled back. Connections, slots and
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
  readonly #deadline: number;
  readonly #timer: NodeJS.Timeout;
  readonly #resolveOver: () => void;
  /** The parcels that were given to {@link offer} in this turn. */
  #batch: { parcel: Parcel; resolve: (offered: Offered) => void }[] = [];
  #isExpired = false;
  #isRolledBack = false;

  /** @param timeout of the drain, in ms from now */
  constructor(exchange: Exchange | undefined, confirmed: Promise<boolean>, timeout: number) {
    this.exchange = exchange;
    this.confirmed = confirmed;
    this.timeout = timeout;
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
   * Offers a parcel to the successor, which must exist. Parcels of one turn of the event loop go in one message: a message
   * for each of 100,000 units would take seconds.
   */
  async offer(parcel: Parcel): Promise<Offered> {
    if (this.#batch.length === 0) queueMicrotask(() => this.#offerBatch());
    return new Promise((resolve) => this.#batch.push({ parcel, resolve }));
  }

  /** Resolves when a rollback is impossible, or the drain is over. */
  async rollbackImpossible(): Promise<void> {
    await Promise.race([this.confirmed, this.over]);
  }

  #offerBatch(): void {
    const batch = this.#batch;
    this.#batch = [];
    const offered = this.exchange!.offer(batch.map(({ parcel }) => parcel));
    for (const [n, { resolve }] of batch.entries()) resolve(offered[n]!);
  }
}
