import { setTimeout as delay } from "node:timers/promises";
import type { ErrorCode, RefusalCode } from "../../errors.js";
import type { DrainContext } from "../../exchange/drain-context.js";
import type { Offered } from "../../exchange/exchange.js";
import { makeRefusal, type Parcel, type Peer, type Refusal, type Settlement } from "../../exchange/parcel.js";
import { deferred } from "../../util/deferred.js";
import { TIMED_OUT, withTimeout } from "../../util/timeout.js";
import { MAX_ATTEMPTS, warnStateFailed } from "../failed-state.js";

/** The outcome of {@link Slot.initiate}. Unless the state was taken it is still here. */
export type SlotOutcome =
  | { readonly how: "taken"; readonly by: Peer }
  /** Of a slot with the scope `"global"` and a `ttl`: it waits for a process that starts later, on any host. */
  | { readonly how: "parked"; readonly refusals: readonly Refusal[] }
  | {
      /**
       * `failed`: three processes died with the state, or it arrived damaged three times, or the channel failed and the
       * successor may have it. It is not offered again.
       */
      readonly how: "withdrawn" | "failed";
      /** Why no process took it. */
      readonly refusals: readonly Refusal[];
    };

interface Source {
  readonly label: string;
  /** Of two slots of one label the one with the lower number is older. */
  readonly number: number;
  /** The encoded state, if the program gave a value. */
  readonly parcel: Parcel | undefined;
  /** Calls the program's function, and encodes the result. */
  readonly make: () => Promise<Parcel>;
  /** Whether the function can be called again after a rollback. */
  readonly isView: boolean;
  /** ms */
  readonly timeout: number;
  readonly ttl: number | undefined;
  /** Whether other hosts may take it. */
  readonly isGlobal: boolean;
}

type Taken = Settlement & { readonly how: "taken" };

/** State that a process offers. */
export class PendingSlot {
  readonly isView: boolean;
  readonly number: number;
  readonly #source: Source;
  readonly #expires: number;
  readonly #outcome = deferred<SlotOutcome>();
  readonly #refusals: Refusal[] = [];
  #parcel: Parcel | undefined;
  #failures = 0;
  #rollbacks = 0;
  /** Since when, on the clock of `performance.now()`, memory or descriptors have been lacking. */
  #lackingSince: number | undefined;
  #isOpen = true;
  /** The offer to other hosts that is not known to have come back: they do not die with the successor. */
  #far: Offered | undefined;
  /** Until it is known after a rollback whether another host has it. */
  #takingBack: Promise<void> | undefined;

  constructor(source: Source) {
    this.#source = source;
    this.isView = source.isView;
    this.number = source.number;
    this.#parcel = source.parcel;
    // Every process has a slot without a lifetime, and the first use of `performance` costs 1 ms.
    this.#expires = source.ttl === undefined ? Infinity : performance.now() + source.ttl;
  }

  get outcome(): Promise<SlotOutcome> {
    return this.#outcome.promise;
  }

  /** Whether there is no outcome yet. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** The encoded state; undefined before a function of the program has returned. */
  get frozen(): Parcel | undefined {
    return this.#parcel;
  }

  /** After a rollback: a view is called again. No process has died with the state that it returns then. */
  invalidateView(): void {
    this.#lackingSince = undefined;
    if (!this.isView) return;
    this.#parcel = undefined;
    this.#failures = 0;
    this.#rollbacks++;
  }

  /** A copy of the state as it is now. */
  async copy(): Promise<Parcel> {
    return this.#parcel ?? this.#source.make();
  }

  /**
   * After a rollback: the successor is dead, so that no answer of it is missing. Another host may still take it: resolves when it
   * has, or cannot any longer; {@link isOpen} says which.
   */
  takeBack(): Promise<void> | undefined {
    this.#far?.withdraw();
    return this.#awaitFar();
  }

  #awaitFar(): Promise<void> | undefined {
    const far = this.#far;
    if (far === undefined) return this.#takingBack;
    this.#far = undefined;
    return (this.#takingBack = far.settled.then((settlement) => {
      this.#takingBack = undefined;
      const taken = this.#isOpen ? this.#settle(settlement, false) : undefined;
      if (taken !== undefined) this.resolve(taken.by);
    }));
  }

  /** Offers the state once. Resolves with undefined if it was not taken; {@link isOpen} says whether to offer it again. */
  async offer(context: DrainContext): Promise<Taken | undefined> {
    await this.#takingBack;
    if (!this.#isOpen) return undefined;
    const timeout = Math.min(this.#source.timeout, this.#expires - performance.now(), context.remaining);
    const end = performance.now() + timeout;
    if (timeout <= 0) return this.withdraw(makeRefusal("ERR_EXPIRED", "its time was over"));
    const { label, isGlobal, ttl } = this.#source;
    const route = await context.routeOf(SLOT_KIND, label, isGlobal, timeout);
    if (context.isRolledBack) return undefined;
    if (route === undefined) return this.#giveUp();
    const { exchange, isGlobal: isFar, peers } = route;
    const mayPark = isFar && ttl !== undefined;
    if (exchange === undefined || (!mayPark && peers.length === 0))
      return this.#withdrawWithoutTaker(context);
    const frozen = await this.#freezeWithin(timeout);
    if (frozen === undefined || context.isRolledBack) return undefined;
    const parcel = mayPark ? { ...frozen, ttl: this.#expires - performance.now() } : frozen;
    const [offered] = exchange.offer([parcel]);
    if (isFar) this.#far = offered;
    let isLate = false;
    const timer = setTimeout(
      () => {
        isLate = true;
        if (mayPark) offered!.park?.();
        else offered!.withdraw();
      },
      Math.max(0, end - performance.now()) + parcel.body.length / SLOWEST,
    );
    const settlement = await Promise.race([offered!.settled, context.over]);
    clearTimeout(timer);
    if (settlement === undefined) return this.#endOffer(offered!, mayPark, context);
    // It is taken back, with this settlement.
    if (isFar && context.isRolledBack) return undefined;
    if (settlement.how === "refused" && LACKING.has(settlement.code)) return this.#waitForRoom(settlement);
    return this.#settle(settlement, isLate);
  }

  /** The drain is over. */
  async #endOffer(offered: Offered, mayPark: boolean, context: DrainContext): Promise<undefined> {
    // The other process may still take it, unless it is withdrawn.
    if (mayPark && !context.isRolledBack) offered.park?.();
    else offered.withdraw();
    if (context.isRolledBack) return undefined;
    // Another host does not end with the drain: it may take the state until the engine says that this is over.
    const far = this.#awaitFar();
    await far;
    const silent =
      far === undefined ? "the successor does not answer" : "no other host took it before the drain was over";
    if (!context.isRolledBack && this.#isOpen) this.withdraw(makeRefusal("ERR_TIMEOUT", silent));
    return undefined;
  }

  /** The successor has taken the state, and its probation is over. */
  resolve(by: Peer): void {
    this.#decide({ how: "taken", by });
  }

  /** The state stays in this process. */
  withdraw(refusal?: Refusal): undefined {
    if (refusal !== undefined) this.#refusals.push(refusal);
    this.#decide({ how: "withdrawn", refusals: this.#refusals });
  }

  /** A process has died with the state, or it arrived damaged. After {@link MAX_ATTEMPTS} it is not offered again. */
  countFailure(times = 1): void {
    this.#failures += times;
    if (this.#failures < MAX_ATTEMPTS || !this.#isOpen) return;
    warnStateFailed(`slot "${this.#source.label}"`, this.#parcel?.body.length ?? 0, "attempts have failed");
    this.#decide({ how: "failed", refusals: this.#refusals });
  }

  /** Offered to another process the state could have two owners. */
  #fail(): undefined {
    this.#refusals.push(
      makeRefusal(
        "ERR_CHANNEL",
        "the channel or the lease has failed, and another process may have taken it",
      ),
    );
    this.#decide({ how: "failed", refusals: this.#refusals });
  }

  #settle(settlement: Settlement, isLate: boolean): Taken | undefined {
    if (settlement.how === "taken") return settlement;
    this.#far = undefined;
    if (settlement.how === "lost") return this.#fail();
    if (settlement.how === "parked") return this.#decide({ how: "parked", refusals: this.#refusals });
    if (settlement.how === "refused") {
      const refusal = withoutHow(settlement);
      if (refusal.code === "ERR_STOPPED") return this.withdraw(refusal);
      this.#refusals.push(refusal);
      this.countFailure();
    } else {
      this.#refusals.push(...settlement.refusals);
      if (settlement.died) this.countFailure(settlement.deaths);
      else if (isLate) this.#giveUp();
    }
    return undefined;
  }

  /** Lacking memory or descriptors are no fault of the state: it is offered again until its timeout. */
  async #waitForRoom(why: Refusal): Promise<undefined> {
    if (this.#refusals.at(-1)?.code !== why.code) this.#refusals.push(withoutHow(why));
    this.#lackingSince ??= performance.now();
    if (performance.now() - this.#lackingSince < this.#source.timeout) await delay(ROOM_INTERVAL);
    else this.#giveUp();
  }

  #giveUp(): undefined {
    return this.withdraw(makeRefusal("ERR_TIMEOUT", `it was not taken in ${this.#source.timeout} ms`));
  }

  /** The successor may have died. A rollback may follow, and another successor: the state waits for it. */
  async #withdrawWithoutTaker(context: DrainContext): Promise<undefined> {
    await context.rollbackImpossible();
    if (!context.isRolledBack) this.withdraw(makeRefusal("ERR_NO_TAKER", "there is no successor"));
  }

  /** The exception of the program's function rejects the promise that `initiate()` returned. */
  async #freezeWithin(timeout: number): Promise<Parcel | undefined> {
    try {
      const parcel = await withTimeout(timeout, this.#freeze());
      if (parcel !== TIMED_OUT) return parcel;
      const reason = `its data was not there in ${this.#source.timeout} ms`;
      this.withdraw(makeRefusal("ERR_TIMEOUT", reason));
    } catch (error) {
      this.#isOpen = false;
      this.#outcome.reject(error as Error);
    }
    return undefined;
  }

  async #freeze(): Promise<Parcel> {
    if (this.#parcel !== undefined) return this.#parcel;
    const rollbacks = this.#rollbacks;
    const parcel = await this.#source.make();
    // A view that was called before a rollback has returned old data.
    if (rollbacks === this.#rollbacks) this.#parcel = parcel;
    return parcel;
  }

  #decide(outcome: SlotOutcome): undefined {
    this.#isOpen = false;
    this.#outcome.resolve(outcome);
  }
}

/** The kind of the parcels that carry slots. */
export const SLOT_KIND = "slot";

/** Bytes per ms. The timeout of an offer is extended by the time that its body needs at this rate. */
const SLOWEST = 65_536;

/** Refusals for lack of memory or descriptors, in this process or the other, or of an engine that answers. */
const LACKING: ReadonlySet<string> = new Set<ErrorCode | RefusalCode>([
  "ERR_MEMORY",
  "ERR_DESCRIPTOR",
  "ERR_EXCHANGE",
]);

/** The time, in ms, until a slot is offered again for which memory or descriptors were lacking. */
const ROOM_INTERVAL = 10;

function withoutHow({ code, reason }: Refusal): Refusal {
  return reason === undefined ? { code } : { code, reason };
}
