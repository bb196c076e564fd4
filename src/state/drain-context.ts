import { deferred } from "../util/deferred.js";
import type { Exchange } from "../exchange/exchange.js";

/** The end of a process, as its state sees it. */
export class DrainContext {
  /** Leads to the successor; undefined where there is none. */
  readonly exchange: Exchange | undefined;
  /** Resolves when the successor's probation is over: true if it stays, false if this process serves again. */
  readonly probation: Promise<boolean>;
  /** Resolves when the time of the drain is over, or nothing is waited for any more. */
  readonly over: Promise<void>;
  readonly #deadline: number;
  readonly #timer: NodeJS.Timeout;
  readonly #end: () => void;
  /** Its timer has fired. */
  #isLate = false;
  #isRolledBack = false;

  /** @param timeout of the drain, in ms */
  constructor(exchange: Exchange | undefined, probation: Promise<boolean>, timeout: number) {
    this.exchange = exchange;
    this.probation = probation;
    this.#deadline = performance.now() + timeout;
    const { promise, resolve } = deferred<void>();
    this.over = promise;
    this.#end = resolve;
    this.#timer = setTimeout(() => {
      this.#isLate = true;
      resolve();
    }, timeout);
  }

  /** ms until the time of the drain is over. Its timer may be early by a part of one. */
  get remaining(): number {
    return this.#isLate ? 0 : Math.max(0, this.#deadline - performance.now());
  }

  /** This process serves again: nothing leaves any more. */
  get isRolledBack(): boolean {
    return this.#isRolledBack;
  }

  rollBack(): void {
    this.#isRolledBack = true;
    this.end();
  }

  /** Nothing is waited for any more. */
  end(): void {
    clearTimeout(this.#timer);
    this.#end();
  }

  /** Whether anybody takes parcels of this kind now. */
  hasTaker(kind: string, label?: string): boolean {
    return this.exchange !== undefined && this.exchange.peers(kind, label).length > 0;
  }

  /** Until it is certain that this process will not serve again; at most to the end of the drain. */
  async rollbackImpossible(): Promise<void> {
    await Promise.race([this.probation, this.over]);
  }
}
