import { randomUUID } from "node:crypto";
import { codeOf, HandoverError, reasonOf } from "../errors.js";
import type { Offered } from "../exchange/exchange.js";
import type { FencingTokens } from "../exchange/fencing.js";
import { makeRefusal, type Parcel, type Peer, type Refusal, type Settlement } from "../exchange/parcel.js";
import { deferred } from "../util/deferred.js";
import { batches } from "../util/batches.js";
import { isAmbiguous, type AmbiguousError } from "./ambiguous-error.js";
import {
  MAX_DEATHS,
  type Draft,
  type Engine,
  type FoundOffer,
  type OfferKey,
  type OfferState,
  type Taken,
} from "./engine.js";
import type { Seat } from "./seat.js";
import { Repeater } from "./repeater.js";

/** An offer of this process that is not settled. */
class Pending {
  readonly draft: Draft;
  /** Undefined until the engine has answered. */
  number: number | undefined;
  /** Whether the owner wants it back, and what it is told then. */
  wish: "none" | "back" | "park" = "none";
  /** The last one. */
  refusal: Refusal | undefined;
  /** Whether every process that could take it has refused it. */
  isRefused = false;
  deaths = 0;
  readonly #settled = deferred<Settlement>();
  isOpen = true;

  constructor(draft: Draft) {
    this.draft = draft;
  }

  get settled(): Promise<Settlement> {
    return this.#settled.promise;
  }

  get key(): OfferKey {
    const { kind, label, id } = this.draft.parcel;
    return { number: this.number!, kind, label, id };
  }

  settle(settlement: Settlement): void {
    this.isOpen = false;
    this.#settled.resolve(settlement);
  }
}

/** The parcels that this process has offered to other hosts. */
export class HostOutbox {
  readonly #engine: Engine;
  readonly #seat: Seat;
  readonly #peers: (kind: string, label: string) => readonly Peer[];
  readonly #fences: FencingTokens;
  readonly #pending = new Map<number, Pending>();
  readonly #unsent = new Set<Pending>();
  readonly #looking: Repeater;
  /** Those that no question has yet, in the order in which they were offered. */
  #waiting: Pending[] = [];
  #isSending = false;
  /** Two generations may offer for one seat. */
  readonly #keyPrefix = `${randomUUID()} `;
  #keys = 0;
  #parked = 0;
  /** Whether a parcel may have been taken whose number was not known yet. */
  #isTakenEarly = false;

  /**
   * @param peers the processes that take parcels of a kind and label
   * @param fences of this process
   */
  constructor(
    engine: Engine,
    seat: Seat,
    peers: (kind: string, label: string) => readonly Peer[],
    fences: FencingTokens,
  ) {
    this.#engine = engine;
    this.#seat = seat;
    this.#peers = peers;
    this.#fences = fences;
    this.#looking = new Repeater(async () => this.#look(), POLL);
    seat.onLost(() => this.#lose());
  }

  get size(): number {
    return this.#pending.size + this.#unsent.size;
  }

  get parked(): number {
    return this.#parked;
  }

  offer(parcels: readonly Parcel[]): readonly Offered[] {
    const isHeld = this.#seat.isHeld;
    const all = parcels.map((parcel) => {
      const pending = new Pending({
        parcel,
        fence: this.#fences.last,
        key: `${this.#keyPrefix}${this.#keys++}`,
      });
      const refusal = isHeld ? this.#whyNot(parcel) : makeRefusal("ERR_EXCHANGE", "the lease has ended");
      if (refusal === undefined) {
        this.#unsent.add(pending);
        this.#waiting.push(pending);
      } else pending.settle({ how: "refused", ...refusal });
      return {
        settled: pending.settled,
        withdraw: () => this.#want(pending, "back"),
        park: () => this.#want(pending, "park"),
      };
    });
    void this.#sendWaiting();
    return all;
  }

  /** Something has changed about these offers. */
  wake(): void {
    if (this.#pending.size > 0) this.#looking.now();
  }

  /** Other processes need not be asked about these. */
  taken({ taken, by }: Taken): void {
    for (const number of taken) {
      const pending = this.#pending.get(number);
      if (pending !== undefined) this.#settle(pending, this.#takenBy(by));
      else this.#isTakenEarly ||= this.#unsent.size > 0;
    }
  }

  /** Resolves when all that its owner wants back, or leaves behind, is back, taken or parked. */
  async flush(): Promise<void> {
    const wanted = [...this.#pending.values(), ...this.#unsent].filter(({ wish }) => wish !== "none");
    await Promise.all(wanted.map(({ settled }) => settled));
  }

  stop(): void {
    this.#looking.stop();
    this.#lose();
  }

  #whyNot({ kind, label, fds, body, ttl }: Parcel): Refusal | undefined {
    if (fds.length > 0) return makeRefusal("ERR_DESCRIPTOR", "no descriptor goes to another host");
    const { maxBody } = this.#engine;
    if (body.length > maxBody)
      return makeRefusal("ERR_TOO_LARGE", `${body.length} bytes, at most ${maxBody}`);
    if (ttl === undefined && this.#peers(kind, label).length === 0) return makeRefusal("ERR_NO_TAKER");
    return undefined;
  }

  /**
   * One question after the other, so that they arrive in order. What is offered while one is asked waits for its answer, and goes
   * with the next one; if it fails, what waits fails with it.
   */
  async #sendWaiting(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    const limits = [this.#engine.batch, this.#engine.questionBytes];
    while (this.#waiting.length > 0) {
      const [some] = batches(this.#waiting, limits, ({ draft }) => [1, draft.parcel.body.length]);
      this.#waiting = this.#waiting.slice(some!.length);
      try {
        await this.#send(some!);
      } catch (error) {
        this.#fail(this.#waiting, error, false);
        this.#waiting = [];
      }
    }
    this.#isSending = false;
  }

  async #send(all: readonly Pending[]): Promise<void> {
    const drafts = all.map(({ draft }) => draft);
    const seat = this.#seat.id;
    try {
      this.#sent(
        all,
        await this.#engine.offer(seat, drafts).catch(async (error) => this.#find(seat, drafts, error)),
      );
    } catch (error) {
      this.#fail(all, error, isAmbiguous(error));
      throw error;
    }
  }

  #fail(all: readonly Pending[], error: unknown, isUnknown: boolean): void {
    const refusal = makeRefusal("ERR_EXCHANGE", reasonOf(error));
    for (const one of all) {
      this.#unsent.delete(one);
      if (one.isOpen) one.settle(isUnknown ? { how: "lost" } : { how: "refused", ...refusal });
    }
  }

  #sent(all: readonly Pending[], numbers: readonly FoundOffer[]): void {
    for (const [n, one] of all.entries()) {
      this.#unsent.delete(one);
      if (!one.isOpen) continue;
      const number = numbers[n];
      if (number === undefined) {
        one.settle({ how: "refused", ...makeRefusal("ERR_RUNNING", "another process has it") });
        continue;
      }
      if (typeof number === "object") {
        one.settle(this.#takenBy(number.takenBy));
        continue;
      }
      one.number = number;
      this.#pending.set(number, one);
      if (one.wish !== "none") this.#want(one, one.wish);
    }
    if (this.#isTakenEarly) this.#looking.now();
    else this.#looking.later();
    this.#isTakenEarly = false;
  }

  /** The engine may have received an offer that it has not answered: to send it again could run a unit twice. */
  async #find(seat: string, drafts: readonly Draft[], error: unknown): Promise<FoundOffer[]> {
    if (codeOf(error, "ERR_INTERNAL") === "ERR_TOO_LARGE" || !isAmbiguous(error)) throw error;
    for (;;) {
      try {
        const found = await this.#engine.findOffers(seat, drafts);
        if (found.some((number) => number !== undefined)) return found;
        // A statement is done or not done as a whole.
        throw new HandoverError("ERR_EXCHANGE", reasonOf(error));
      } catch (again) {
        if ((again as Partial<AmbiguousError>).isAmbiguous === undefined) throw again;
        if (!this.#seat.isHeld || this.#seat.id !== seat) throw error;
        await new Promise((resolve) => setTimeout(resolve, POLL));
      }
    }
  }

  #want(pending: Pending, wish: "back" | "park"): void {
    if (!pending.isOpen) return;
    pending.wish = wish;
    if (pending.number === undefined) return;
    if (wish === "back") return this.#looking.now();
    this.#parked++;
    this.#settle(pending, { how: "parked" });
  }

  async #look(): Promise<boolean> {
    if (this.#pending.size === 0) return false;
    if (!this.#seat.isHeld) return false;
    const seat = this.#seat.id;
    const wanted = [...this.#pending.values()].filter(({ wish }) => wish === "back");
    const back =
      wanted.length === 0
        ? []
        : await this.#engine.withdraw(
            seat,
            wanted.map(({ number }) => number!),
          );
    for (const { number, fence } of back) this.#settleBack(this.#pending.get(number), fence);
    if (this.#pending.size === 0) return false;
    for (const state of await this.#engine.look(
      seat,
      [...this.#pending.values()].map(({ key }) => key),
    ))
      this.#use(state);
    return this.#pending.size > 0;
  }

  #settleBack(pending: Pending | undefined, known: number | undefined): void {
    if (pending === undefined) return;
    const { refusal, isRefused, deaths } = pending;
    this.#fences.advanceTo(known ?? 0);
    const fence = known === undefined ? {} : { fence: known };
    if (isRefused && refusal !== undefined)
      return this.#settle(pending, { how: "refused", ...refusal, ...fence });
    const refusals = refusal === undefined ? [] : [refusal];
    this.#settle(pending, {
      how: "withdrawn",
      refusals,
      ...(deaths > 0 ? { died: true, deaths } : { died: false }),
      ...fence,
    });
  }

  #use({ number, isGone, isBack, fence, by, deaths, refusedBy, refusal }: OfferState): void {
    const pending = this.#pending.get(number);
    if (pending === undefined) return;
    if (isGone) return this.#settle(pending, this.#takenBy(by));
    if (isBack === true) return this.#settleBack(pending, fence);
    pending.deaths = deaths;
    pending.refusal = refusal;
    if (deaths >= MAX_DEATHS && pending.wish === "none") return this.#want(pending, "back");
    if (refusal === undefined || pending.wish !== "none" || pending.draft.parcel.ttl !== undefined) return;
    const { kind, label } = pending.draft.parcel;
    const left = this.#peers(kind, label).filter(({ seat }) => !refusedBy.includes(seat!));
    if (left.length > 0) return;
    pending.isRefused = true;
    this.#want(pending, "back");
  }

  #takenBy(by: string | undefined): Settlement {
    const peer = this.#seat.others.find(({ seat }) => seat === by) ?? UNKNOWN;
    return { how: "taken", by: withoutInternals(peer), confirmed: CONFIRMED };
  }

  #settle(pending: Pending, settlement: Settlement): void {
    this.#pending.delete(pending.number!);
    pending.settle(settlement);
  }

  /** Others may have taken what is on offer, and this process does not learn of it. */
  #lose(): void {
    for (const one of [...this.#pending.values(), ...this.#unsent]) one.settle({ how: "lost" });
    this.#pending.clear();
    this.#unsent.clear();
    this.#waiting = [];
  }
}

/** A process that is not known, or is gone. */
const UNKNOWN: Peer = { generation: 0, pid: 0 };

/** Between hosts there is no probation. */
const CONFIRMED = Promise.resolve(true);

/** ms between two looks, if nothing wakes. */
const POLL = 250;

/** What a program sees of a peer. */
export function withoutInternals(peer: Peer): Peer {
  const { generation, pid, index, seat, host, address, release } = peer;
  return {
    generation,
    pid,
    ...(index === undefined ? {} : { index }),
    ...(seat === undefined ? {} : { seat }),
    ...(host === undefined ? {} : { host }),
    ...(address === undefined ? {} : { address }),
    ...(release === undefined ? {} : { release }),
  };
}
