import { setTimeout as delay } from "node:timers/promises";
import { deferred } from "../../util/deferred.js";
import { TIMED_OUT, withTimeout } from "../../util/timeout.js";
import type { DrainContext } from "../../exchange/drain-context.js";
import type { ErrorCode, RefusalCode } from "../../errors.js";
import { makeRefusal, type Parcel, type Peer, type Refusal, type Settlement } from "../../exchange/parcel.js";

/** What became of state that was to be handed on. Unless it was taken it is still here. */
export type SlotOutcome =
  | { readonly how: "taken"; readonly by: Peer }
  | {
      /** `failed`: three processes died over it, or it came damaged three times; it is not offered any more. */
      readonly how: "withdrawn" | "failed";
      /** Why nobody took it. */
      readonly refusals: readonly Refusal[];
    };

interface Source {
  readonly label: string;
  /** Of two of one label the lower one is older. */
  readonly number: number;
  /** What is given as it is. */
  readonly parcel: Parcel | undefined;
  /** Else it is made as late as possible. */
  readonly make: () => Promise<Parcel>;
  /** What it is made of stays in this process, so that it can be made anew. */
  readonly isView: boolean;
  /** ms */
  readonly timeout: number;
  readonly ttl: number | undefined;
}

/** State that a process wants to hand on. */
export class PendingSlot {
  readonly isView: boolean;
  readonly number: number;
  readonly #source: Source;
  readonly #expires: number;
  readonly #outcome = deferred<SlotOutcome>();
  readonly #refusals: Refusal[] = [];
  #parcel: Parcel | undefined;
  #attempts = 0;
  #thaws = 0;
  /** Of `performance.now()`: since when there has been no room for it. */
  #lackingSince: number | undefined;
  #isOpen = true;

  constructor(source: Source) {
    this.#source = source;
    this.isView = source.isView;
    this.number = source.number;
    this.#parcel = source.parcel;
    this.#expires = performance.now() + (source.ttl ?? Infinity);
  }

  get outcome(): Promise<SlotOutcome> {
    return this.#outcome.promise;
  }

  /** Whether it is not decided yet. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** What it was frozen as; undefined if it was not. */
  get frozen(): Parcel | undefined {
    return this.#parcel;
  }

  /** A view is asked again the next time, and nobody has died over what it will be then. */
  invalidateView(): void {
    this.#lackingSince = undefined;
    if (!this.isView) return;
    this.#parcel = undefined;
    this.#attempts = 0;
    this.#thaws++;
  }

  async freeze(): Promise<Parcel> {
    if (this.#parcel !== undefined) return this.#parcel;
    const thaws = this.#thaws;
    const parcel = await this.#source.make();
    // What was asked before a rollback is too old after it.
    if (thaws === this.#thaws) this.#parcel = parcel;
    return parcel;
  }

  /** A copy of what it would be now. */
  async copy(): Promise<Parcel> {
    return this.#parcel ?? this.#source.make();
  }

  /** Offers it once. Undefined if it is decided, or this process serves again. */
  async offer(context: DrainContext): Promise<(Settlement & { how: "taken" }) | undefined> {
    const timeout = Math.min(this.#source.timeout, this.#expires - performance.now(), context.remaining);
    const end = performance.now() + timeout;
    if (timeout <= 0) return this.withdraw(makeRefusal("ERR_EXPIRED", "its time was over"));
    if (!context.hasTaker(SLOT_KIND)) return this.#wait(context);
    const parcel = await this.#freezeWithin(timeout);
    if (parcel === undefined || context.isRolledBack) return undefined;
    const [offered] = context.exchange!.offer([parcel]);
    let isLate = false;
    const timer = setTimeout(
      () => {
        isLate = true;
        offered!.withdraw();
      },
      Math.max(0, end - performance.now()) + parcel.body.length / SLOWEST,
    );
    const settlement = await Promise.race([offered!.settled, context.over]);
    clearTimeout(timer);
    if (settlement === undefined) {
      // It may still be taken there.
      offered!.withdraw();
      return context.isRolledBack
        ? undefined
        : this.withdraw(makeRefusal("ERR_TIMEOUT", "the successor does not answer"));
    }
    if (settlement.how === "refused" && LACKING.has(settlement.code)) return this.#waitForRoom(settlement);
    return this.#settle(settlement, isLate);
  }

  /** It was taken, and by whom. */
  resolve(by: Peer): void {
    this.#decide({ how: "taken", by });
  }

  /** It stays here. */
  withdraw(refusal?: Refusal): undefined {
    if (refusal !== undefined) this.#refusals.push(refusal);
    this.#decide({ how: "withdrawn", refusals: this.#refusals });
  }

  /** Somebody has died over it, or it came damaged. After the third time it is not offered any more. */
  countFailure(): void {
    if (++this.#attempts < ATTEMPTS || !this.#isOpen) return;
    const size = this.#parcel?.body.length ?? 0;
    const what = `slot "${this.#source.label}" (${size} bytes)`;
    process.emitWarning(`${what} is not handed on any more: ${ATTEMPTS} attempts have failed`, {
      code: "HANDOVER_STATE_FAILED",
    });
    this.#decide({ how: "failed", refusals: this.#refusals });
  }

  #settle(settlement: Settlement, isLate: boolean): (Settlement & { how: "taken" }) | undefined {
    if (settlement.how === "taken") return settlement;
    if (settlement.how === "refused") {
      const why = refusalOf(settlement);
      if (why.code === "ERR_STOPPED") return this.withdraw(why);
      this.#refusals.push(why);
      this.countFailure();
    } else {
      this.#refusals.push(...settlement.refusals);
      if (settlement.died) this.countFailure();
      else if (isLate) this.#giveUp();
    }
    return undefined;
  }

  /** For as long as it may take to hand it on: there may be room in a moment. It has harmed nobody, and is whole. */
  async #waitForRoom(why: Refusal): Promise<undefined> {
    if (this.#refusals.at(-1)?.code !== why.code) this.#refusals.push(refusalOf(why));
    this.#lackingSince ??= performance.now();
    if (performance.now() - this.#lackingSince < this.#source.timeout) await delay(PAUSE);
    else this.#giveUp();
  }

  #giveUp(): undefined {
    return this.withdraw(makeRefusal("ERR_TIMEOUT", `nobody took it in ${this.#source.timeout} ms`));
  }

  /** Nobody is there (any more). It may be that this process serves again in a moment. */
  async #wait(context: DrainContext): Promise<undefined> {
    await context.rollbackImpossible();
    if (!context.isRolledBack) this.withdraw(makeRefusal("ERR_NO_TAKER", "there is no successor"));
  }

  /** What the program throws is its own to hear. */
  async #freezeWithin(timeout: number): Promise<Parcel | undefined> {
    try {
      const parcel = await withTimeout(timeout, this.freeze());
      if (parcel !== TIMED_OUT) return parcel;
      this.withdraw(makeRefusal("ERR_TIMEOUT", `its data was not there in ${this.#source.timeout} ms`));
    } catch (error) {
      this.#isOpen = false;
      this.#outcome.reject(error as Error);
    }
    return undefined;
  }

  #decide(outcome: SlotOutcome): void {
    this.#isOpen = false;
    this.#outcome.resolve(outcome);
  }
}

/** The kind of these parcels. */
export const SLOT_KIND = "slot";

/** Bytes in a ms: the time that so many take to get there is added to the timeout. */
const SLOWEST = 65_536;

/** There is no memory or descriptor for it, in this process or the other. */
const LACKING: ReadonlySet<string> = new Set<ErrorCode | RefusalCode>(["ERR_MEMORY", "ERR_DESCRIPTOR"]);

/** In ms, until it is tried again. */
const PAUSE = 10;

/** How often the same state may fail to get there. */
const ATTEMPTS = 3;

/** The refusal in a settlement, without its `how`. */
function refusalOf({ code, reason }: Refusal): Refusal {
  return reason === undefined ? { code } : { code, reason };
}
