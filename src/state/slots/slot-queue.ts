import { setImmediate as turn } from "node:timers/promises";
import { deferred } from "../../util/deferred.js";
import type { DrainContext } from "../../exchange/drain-context.js";
import type { PendingSlot } from "./pending-slot.js";
import { makeRefusal, type Parcel, type Settlement } from "../../exchange/parcel.js";

/** What one label has to hand on: the oldest first, one at a time. */
export class SlotQueue {
  /** The first one, as it was when it was offered, may be on its way. */
  #waiting: PendingSlot[] = [];
  /** Those that were taken, and may come back, by what tells whether they do. */
  readonly #taken = new Map<Promise<boolean>, PendingSlot[]>();
  #context: DrainContext | undefined;
  #idle = deferred<void>();
  #isRunning = false;

  get isEmpty(): boolean {
    return this.#waiting.length === 0 && this.#taken.size === 0;
  }

  /** Whether there is something that is on its way, or will be in a moment. */
  get isOffering(): boolean {
    return this.#context !== undefined && this.#waiting.length > 0;
  }

  #lookIfIdle(): void {
    if (!this.isEmpty && this.#context !== undefined) return;
    this.#idle.resolve();
    this.#idle = deferred();
  }

  add(pending: PendingSlot): void {
    this.#waiting.push(pending);
    this.#run();
  }

  /** Hands on what there is, and what comes. */
  begin(context: DrainContext): void {
    this.#context = context;
    this.#run();
  }

  /** Resolves when nothing is left, or this process serves again. */
  async whenEmpty(): Promise<void> {
    if (!this.isEmpty && this.#context !== undefined) await this.#idle.promise;
  }

  /** A copy of the oldest. */
  async copy(): Promise<Parcel | undefined> {
    return this.#waiting[0]?.copy();
  }

  /** This process serves again; what was given away is its own, and goes to `giveBack`, which tells if it was wanted. */
  cancel(giveBack: (parcel: Parcel) => Promise<boolean>): void {
    this.#context = undefined;
    this.#lookIfIdle();
    const taken = [...this.#taken.values()].flat();
    this.#taken.clear();
    this.#waitAgain(taken);
    for (const one of this.#waiting) {
      one.invalidateView();
      if (one.frozen !== undefined) void this.#giveBack(one, giveBack(one.frozen));
    }
  }

  #run(): void {
    if (this.#isRunning || this.#context === undefined) return;
    this.#isRunning = true;
    const context = this.#context;
    // Whoever adds something has its outcome before it is asked for its data.
    const handingOn = Promise.resolve().then(async () => this.#handOn(context));
    void handingOn.finally(() => {
      this.#isRunning = false;
      this.#lookIfIdle();
      // It may have been undone, and begun anew, meanwhile.
      if (this.#waiting.length > 0) this.#run();
    });
  }

  async #handOn(context: DrainContext): Promise<void> {
    let first;
    while (this.#context === context && (first = this.#waiting[0]) !== undefined) {
      const taken = first.isOpen ? await first.offer(context) : undefined;
      if (this.#context !== context) return;
      if (taken !== undefined) this.#await(first, taken);
      if (taken !== undefined || !first.isOpen) this.#remove(first);
      // It is offered again: to another process, or when there are descriptors again, which takes a turn.
      else await turn();
    }
  }

  /** Until it is certain. After a rollback it waits here already. */
  #await(first: PendingSlot, { by, confirmed }: Settlement & { how: "taken" }): void {
    const taken = this.#taken.get(confirmed);
    if (taken !== undefined) return void taken.push(first);
    const all = [first];
    this.#taken.set(confirmed, all);
    void confirmed.then((isConfirmed) => {
      if (!this.#taken.delete(confirmed)) return;
      if (isConfirmed) for (const one of all) one.resolve(by);
      else this.#waitAgain(all);
      this.#lookIfIdle();
      this.#run();
    });
    return undefined;
  }

  /** Whoever took them has died. In their old place: before they went, another one may have been on its way. */
  #waitAgain(back: readonly PendingSlot[]): void {
    for (const one of back) one.countFailure();
    this.#waiting = [...back, ...this.#waiting]
      .filter(({ isOpen }) => isOpen)
      .toSorted((a, b) => a.number - b.number);
  }

  #remove(one: PendingSlot): void {
    const at = this.#waiting.indexOf(one);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  async #giveBack(one: PendingSlot, wanted: Promise<boolean>): Promise<void> {
    if (!(await wanted)) return;
    this.#remove(one);
    this.#lookIfIdle();
    one.withdraw(makeRefusal("ERR_ROLLED_BACK", "this process has taken it back"));
  }
}
