import { setImmediate as turn } from "node:timers/promises";
import type { DrainContext } from "../../exchange/drain-context.js";
import { makeRefusal, type Parcel, type Settlement } from "../../exchange/parcel.js";
import { deferred } from "../../util/deferred.js";
import type { PendingSlot } from "./pending-slot.js";

/** The process that the slots are part of. */
interface SlotQueueHost {
  /** The drain of the process while slots move; undefined before, and after a rollback. */
  readonly slotDrain: DrainContext | undefined;
}

/** The pending slots of one label: offered one at a time, the oldest first. */
export class SlotQueue {
  readonly #host: SlotQueueHost;
  /** The first one may be on its way. */
  #waiting: PendingSlot[] = [];
  /** The slots that the successor has taken, by the promise that tells whether they can come back. */
  readonly #taken = new Map<Promise<boolean>, PendingSlot[]>();
  #idle = deferred<void>();
  #isRunning = false;

  constructor(host: SlotQueueHost) {
    this.#host = host;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0 && this.#taken.size === 0;
  }

  /** Whether the successor has taken every slot, though its probation may not be over. */
  get isDrained(): boolean {
    return this.#waiting.length === 0;
  }

  /** Whether a slot is on its way, or is about to be. */
  get isOffering(): boolean {
    return this.#host.slotDrain !== undefined && this.#waiting.length > 0;
  }

  get #isBusy(): boolean {
    return this.#host.slotDrain !== undefined && !this.isEmpty;
  }

  add(pending: PendingSlot): void {
    this.#waiting.push(pending);
    this.run();
  }

  /** Offers the slots that wait, and those that are added, while slots move. */
  run(): void {
    const context = this.#host.slotDrain;
    if (this.#isRunning || context === undefined) return;
    this.#isRunning = true;
    // The caller of `initiate()` has its promise before its function is called.
    const offering = Promise.resolve().then(async () => this.#offerAll(context));
    void offering.finally(() => {
      this.#isRunning = false;
      this.#resolveIfIdle();
      // A rollback may have ended the drain, and the next one may have begun meanwhile.
      if (this.#waiting.length > 0) this.run();
    });
  }

  /** Resolves when the queue is empty, or after a rollback. */
  async whenEmpty(): Promise<void> {
    if (this.#isBusy) await this.#idle.promise;
  }

  /** A copy of the oldest slot. */
  async copy(): Promise<Parcel | undefined> {
    return this.#waiting[0]?.copy();
  }

  /**
   * After a rollback: the slots that were taken wait again.
   *
   * @param giveBack is called with each slot that was given away. Resolves with whether a subscriber of this process took it
   */
  rollBack(giveBack: (parcel: Parcel) => Promise<boolean>): void {
    this.#resolveIfIdle();
    const taken = [...this.#taken.values()].flat();
    this.#taken.clear();
    this.#requeue(taken);
    for (const pending of this.#waiting) {
      const takingBack = pending.takeBack();
      if (takingBack === undefined) this.#giveBack(pending, giveBack);
      else void takingBack.then(() => this.#onBack(pending, giveBack));
    }
  }

  /** It is known whether another host has the slot. */
  #onBack(pending: PendingSlot, giveBack: (parcel: Parcel) => Promise<boolean>): void {
    if (!pending.isOpen) {
      this.#remove(pending);
      this.#resolveIfIdle();
    } else if (this.#host.slotDrain === undefined) this.#giveBack(pending, giveBack);
  }

  #resolveIfIdle(): void {
    if (this.#isBusy) return;
    this.#idle.resolve();
    this.#idle = deferred();
  }

  async #offerAll(context: DrainContext): Promise<void> {
    let first;
    while (this.#host.slotDrain === context && (first = this.#waiting[0]) !== undefined) {
      const taken = first.isOpen ? await first.offer(context) : undefined;
      if (this.#host.slotDrain !== context) return;
      if (taken !== undefined) this.#awaitProbation(first, taken);
      if (taken !== undefined || !first.isOpen) this.#remove(first);
      // The next offer goes to another process, or needs descriptors that another callback of the event loop frees.
      else await turn();
    }
  }

  /** A rollback clears {@link #taken}: the slots wait here already when the promise resolves. */
  #awaitProbation(pending: PendingSlot, { by, confirmed }: Settlement & { how: "taken" }): void {
    const others = this.#taken.get(confirmed);
    if (others !== undefined) return void others.push(pending);
    const taken = [pending];
    this.#taken.set(confirmed, taken);
    void confirmed.then((isConfirmed) => {
      if (!this.#taken.delete(confirmed)) return;
      if (isConfirmed) for (const one of taken) one.resolve(by);
      else this.#requeue(taken);
      this.#resolveIfIdle();
      this.run();
    });
    return undefined;
  }

  /** Puts slots back whose taker has died, in their old places: a younger slot may be on its way. */
  #requeue(pending: readonly PendingSlot[]): void {
    for (const one of pending) one.countFailure();
    this.#waiting = [...pending, ...this.#waiting]
      .filter(({ isOpen }) => isOpen)
      .toSorted((a, b) => a.number - b.number);
  }

  #remove(pending: PendingSlot): void {
    const at = this.#waiting.indexOf(pending);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** To the subscribers of this process. */
  #giveBack(pending: PendingSlot, giveBack: (parcel: Parcel) => Promise<boolean>): void {
    pending.invalidateView();
    if (pending.frozen === undefined) return;
    void giveBack(pending.frozen).then((isTaken) => {
      if (!isTaken) return;
      this.#remove(pending);
      this.#resolveIfIdle();
      pending.withdraw(makeRefusal("ERR_ROLLED_BACK", "this process has taken it back"));
    });
  }
}
