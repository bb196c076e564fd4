import { deferred } from "../deferred.js";
import type { Departure } from "./departure.js";
import type { Initiated } from "./initiated.js";
import type { Parcel, Settlement } from "./parcel.js";

/** What one label has to hand on: the oldest first, one at a time. */
export class SlotQueue {
  /** The first one may be on its way. */
  #waiting: Initiated[] = [];
  /** Those that were taken, and may come back. */
  readonly #taken = new Set<Initiated>();
  #departure: Departure | undefined;
  #idle = deferred<void>();
  #isRunning = false;

  get isIdle(): boolean {
    return this.#waiting.length === 0 && this.#taken.size === 0;
  }

  #lookIfIdle(): void {
    if (!this.isIdle && this.#departure !== undefined) return;
    this.#idle.resolve();
    this.#idle = deferred();
  }

  add(initiated: Initiated): void {
    this.#waiting.push(initiated);
    this.#run();
  }

  /** Hands on what there is, and what comes. */
  begin(departure: Departure): void {
    this.#departure = departure;
    this.#run();
  }

  /** Resolves when nothing is left, or this process serves again. */
  async idle(): Promise<void> {
    if (!this.isIdle && this.#departure !== undefined) await this.#idle.promise;
  }

  /** A copy of the oldest. */
  async copy(): Promise<Parcel | undefined> {
    return this.#waiting[0]?.copy();
  }

  /** This process serves again; what was given away is its own, and goes to `giveBack`, which tells if it was wanted. */
  cancel(giveBack: (parcel: Parcel) => Promise<boolean>): void {
    this.#departure = undefined;
    this.#lookIfIdle();
    for (const one of this.#taken) one.failed();
    this.#waiting = [...this.#taken, ...this.#waiting].filter(({ isOpen }) => isOpen);
    this.#taken.clear();
    for (const one of this.#waiting) {
      one.thaw();
      if (one.frozen !== undefined) void this.#giveBack(one, giveBack(one.frozen));
    }
  }

  #run(): void {
    if (this.#isRunning || this.#departure === undefined) return;
    this.#isRunning = true;
    void this.#handOn(this.#departure).finally(() => {
      this.#isRunning = false;
      this.#lookIfIdle();
      // It may have been undone, and begun anew, meanwhile.
      if (this.#waiting.length > 0) this.#run();
    });
  }

  async #handOn(departure: Departure): Promise<void> {
    let first;
    while (this.#departure === departure && (first = this.#waiting[0]) !== undefined) {
      const taken = first.isOpen ? await first.offer(departure) : undefined;
      if (this.#departure !== departure) return;
      if (taken !== undefined) this.#await(first, taken);
      if (taken !== undefined || !first.isOpen) this.#waiting.shift();
    }
  }

  /** Until it is certain. After a rollback it waits here already. */
  #await(one: Initiated, { by, kept }: Settlement & { how: "taken" }): void {
    this.#taken.add(one);
    void kept.then((isKept) => {
      if (!this.#taken.delete(one)) return;
      if (isKept) one.resolve(by);
      else one.failed();
      if (one.isOpen) this.#waiting.unshift(one);
      this.#lookIfIdle();
      this.#run();
    });
  }

  async #giveBack(one: Initiated, wanted: Promise<boolean>): Promise<void> {
    if (!(await wanted)) return;
    this.#waiting = this.#waiting.filter((other) => other !== one);
    this.#lookIfIdle();
    one.withdraw({ code: "ERR_ROLLED_BACK", reason: "this process has taken it back" });
  }
}
