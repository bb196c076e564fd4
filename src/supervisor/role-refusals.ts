import type { Clock } from "../util/clock.js";

/** The workers that could not acquire the roles. They are asked again, later and later, when no other worker is left. */
export class RoleRefusals<Worker extends object> {
  readonly #clock: Clock;
  readonly #again: () => void;
  #refused = new WeakSet<Worker>();
  #delay = FIRST_DELAY;
  #lastAt = -Infinity;
  #cancel: (() => void) | undefined;

  /** @param again is called when every worker may be asked again */
  constructor(clock: Clock, again: () => void) {
    this.#clock = clock;
    this.#again = again;
  }

  has(worker: Worker): boolean {
    return this.#refused.has(worker);
  }

  add(worker: Worker): void {
    const now = this.#clock.now();
    // A worker has held them in between.
    if (now - this.#lastAt > FORGET_AFTER) this.#delay = FIRST_DELAY;
    this.#lastAt = now;
    this.#refused.add(worker);
  }

  /** Every worker that could be asked has refused. */
  askAgain(): void {
    if (this.#cancel !== undefined) return;
    this.#cancel = this.#clock.after(this.#delay, () => {
      this.cancel();
      this.#refused = new WeakSet();
      this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY);
      this.#again();
    });
  }

  cancel(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }
}

/** ms */
const FIRST_DELAY = 1_000;
const LONGEST_DELAY = 30_000;

/** ms; longer than the longest delay and the time in which all workers refuse. */
const FORGET_AFTER = 120_000;
