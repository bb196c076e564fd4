import { setImmediate as turn } from "node:timers/promises";
import type { DeliveryHandler, SubscriptionOptions } from "../exchange/exchange.js";
import { makeRefusal, refusalOf, shortened, type Refusal } from "../exchange/parcel.js";
import { isAmbiguous } from "./ambiguous-error.js";
import type { Claimed, Engine, Refused, StepResult } from "./engine.js";
import { HostDelivery } from "./host-delivery.js";
import { topicOf } from "./names.js";
import { PostponedParcels } from "./postponed-parcels.js";
import { Repeater } from "./repeater.js";
import type { Seat } from "./seat.js";

interface Subscription extends SubscriptionOptions {
  readonly kind: string;
  readonly label: string;
  readonly take: DeliveryHandler;
}

/** The parcels that this process takes from other hosts. */
export class HostInbox {
  readonly #engine: Engine;
  readonly #seat: Seat;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #open = new Map<number, HostDelivery>();
  /** Taken, and not settled. */
  #taken: number[] = [];
  /** Those of them that the engine was told, and has not answered. */
  #settling: readonly number[] = [];
  #refused: Refused[] = [];
  readonly #postponed = new PostponedParcels(() => this.wake());
  readonly #stepping: Repeater;
  readonly #onSubscriptions: () => void;
  /** Whether an answer is missing: what this seat has claimed must be looked up. */
  #isUncertain = false;
  /** Until when, on the clock of `performance.now()`, a step that was not answered may still be done. */
  #uncertainUntil = 0;
  /** Whether the successor is about to have the seat, with all that the seat has claimed. */
  #isFinishing = false;
  /** Taken parcels that such a step may have settled. */
  readonly #retried = new Set<number>();

  /** @param onSubscriptions what this process takes has changed */
  constructor(engine: Engine, seat: Seat, onSubscriptions: () => void) {
    this.#engine = engine;
    this.#seat = seat;
    this.#onSubscriptions = onSubscriptions;
    this.#stepping = new Repeater(async () => this.#step(), POLL);
    seat.onLost(() => this.#lose());
    seat.onBeat(() => this.wake());
  }

  /** The topics of what this process takes. */
  get topics(): string[] {
    return [...this.#subscriptions.keys()];
  }

  subscribe(subscription: Subscription): () => void {
    const key = topicOf(subscription);
    this.#subscriptions.set(key, subscription);
    this.#onSubscriptions();
    this.wake();
    return () => {
      if (this.#subscriptions.get(key) !== subscription) return;
      this.#subscriptions.delete(key);
      this.#onSubscriptions();
    };
  }

  /** Something may have been offered, or withdrawn. */
  wake(): void {
    if (this.#subscriptions.size > 0 || this.#open.size > 0) this.#stepping.now();
  }

  /** Looks what is on offer now. Resolves with whether something of this kind and label is being taken. */
  async fetch(kind: string, label: string): Promise<boolean> {
    await this.#seat.whenHeld();
    await this.#stepping.once();
    return [...this.#open.values()].some((one) => one.isOf(kind, label));
  }

  /**
   * Claims nothing until {@link resume}, settles what it has taken, and gives up what it is taking: the engine does not know
   * which of two processes with one seat has a claim.
   */
  async finish(): Promise<void> {
    this.#isFinishing = true;
    const taken = new Set([...this.#taken, ...this.#settling]);
    for (const [number, delivery] of this.#open) {
      if (taken.has(number)) continue;
      this.#open.delete(number);
      this.#giveBack(delivery, number);
    }
    await this.#stepping.once();
    // A step that ran as this began may have claimed more.
    if (this.#open.size > 0 || this.#refused.length > 0) await this.#stepping.once();
  }

  resume(): void {
    this.#isFinishing = false;
    this.wake();
  }

  stop(): void {
    this.#postponed.stop();
    this.#stepping.stop();
  }

  /** Takes what is on offer, in one question after the other. Resolves with whether to look again soon. */
  async #step(): Promise<boolean> {
    // What is taken in the turn in which it arrives is settled with the next claim, and not by a question of its own.
    await turn();
    if (!this.#seat.isHeld) return false;
    if (this.#isUncertain) await this.#lookUp();
    if (this.#refused.length > 0) await this.#sendRefusals();
    const settle = this.#taken;
    const mayClaim = this.#seat.isTaking && !this.#isFinishing;
    const topics = mayClaim ? this.#wishes(new Set(settle)) : new Map<string, number>();
    const isTaking = topics.size > 0 && this.#open.size < this.#engine.window;
    if (settle.length === 0 && !isTaking && this.#open.size === 0) return false;
    this.#taken = [];
    const seat = this.#seat.id;
    const wish = {
      topics: isTaking ? topics : new Map<string, number>(),
      minAge: this.#minAge(),
      except: this.#postponed.numbers,
    };
    let result: StepResult;
    this.#settling = settle;
    try {
      result = await this.#engine.step(seat, settle, wish);
    } catch (error) {
      this.#taken = [...settle, ...this.#taken];
      if (isAmbiguous(error)) {
        this.#isUncertain = true;
        this.#uncertainUntil = performance.now() + LATEST_STEP;
        for (const number of settle) this.#retried.add(number);
      }
      throw error;
    } finally {
      this.#settling = [];
    }
    if (this.#seat.id !== seat) return false;
    this.#use(settle, result);
    // Another batch may wait.
    if (result.claimed.length > 0 || this.#taken.length > 0) this.#stepping.now();
    if (performance.now() < this.#uncertainUntil) {
      // The step that was not answered may claim something after it was looked up.
      this.#isUncertain = true;
      return true;
    }
    return this.#open.size > 0 || (this.#seat.isTaking && (!this.#engine.wakes || wish.minAge > 0));
  }

  #use(settle: readonly number[], { settled, claimed, withdrawn }: StepResult): void {
    const done = new Set(settled);
    for (const number of settle) {
      const delivery = this.#open.get(number);
      if (!done.has(number) && this.#retried.has(number)) {
        // An earlier step may have settled it: what is claimed says so.
        this.#taken.push(number);
        this.#isUncertain = true;
        continue;
      }
      this.#open.delete(number);
      if (!done.has(number)) this.#giveBack(delivery, number);
    }
    for (const number of withdrawn) {
      const delivery = this.#open.get(number);
      this.#open.delete(number);
      this.#giveBack(delivery, number);
    }
    for (const one of claimed) if (!this.#open.has(one.number)) void this.#take(one);
  }

  #giveBack(delivery: HostDelivery | undefined, number: number): void {
    delivery?.abort();
    this.#taken = this.#taken.filter((one) => one !== number);
    this.#refuse(number, undefined);
  }

  async #take(claimed: Claimed): Promise<void> {
    const { number, parcel } = claimed;
    if (this.#isFinishing) return this.#refuse(number, undefined);
    const delivery = new HostDelivery(claimed, (refusal) => {
      if (!this.#open.delete(number)) return;
      delivery.abort();
      this.#refuse(number, refusal);
    });
    this.#open.set(number, delivery);
    let result;
    try {
      const subscription = this.#subscriptions.get(topicOf(parcel));
      result =
        subscription === undefined ? makeRefusal("ERR_NO_TAKER") : await subscription.take(parcel, delivery);
    } catch (error) {
      result = refusalOf(error);
    }
    if (this.#open.get(number) !== delivery) return;
    if (result === "taken") {
      this.#taken.push(number);
      this.#stepping.now();
    } else {
      this.#open.delete(number);
      if (result === "later") {
        this.#postponed.add(claimed);
        this.#refuse(number, makeRefusal("ERR_REFUSED"), true);
      } else this.#refuse(number, shortened(result));
    }
  }

  #refuse(number: number, refusal: Refusal | undefined, isOpen = refusal === undefined): void {
    this.#refused.push({ number, refusal, isOpen });
    this.#stepping.now();
  }

  async #sendRefusals(): Promise<void> {
    const refused = this.#refused;
    this.#refused = [];
    await this.#engine.refuse(this.#seat.id, refused).catch((error: unknown) => {
      this.#refused = [...refused, ...this.#refused];
      throw error;
    });
  }

  /** A step was not answered: it may have settled what it was told, and claimed more. */
  async #lookUp(): Promise<void> {
    const seat = this.#seat.id;
    const claims = await this.#engine.claims(seat);
    if (this.#seat.id !== seat) return;
    this.#isUncertain = false;
    const mine = new Set(claims.map(({ number }) => number));
    // What this process has taken and no longer holds was settled: an owner cannot take back what is claimed.
    for (const number of this.#taken) {
      if (mine.has(number)) continue;
      this.#open.delete(number);
      this.#retried.delete(number);
    }
    this.#taken = this.#taken.filter((number) => mine.has(number));
    for (const { number, isWithdrawn } of claims) {
      if (!isWithdrawn || !this.#open.has(number)) continue;
      const delivery = this.#open.get(number);
      this.#open.delete(number);
      this.#giveBack(delivery, number);
    }
    const refused = new Set(this.#refused.map(({ number }) => number));
    for (const one of claims)
      if (!one.isWithdrawn && !this.#open.has(one.number) && !refused.has(one.number)) void this.#take(one);
  }

  /** @param settled parcels that have arrived: this process has room for others */
  #wishes(settled: ReadonlySet<number>): Map<string, number> {
    const takers = 1 + this.#seat.others.filter(({ draining }) => !draining).length;
    // The nearest of several idle processes would take everything.
    const share = Math.max(1, Math.ceil(this.#engine.round / takers));
    const wishes = new Map<string, number>();
    for (const [key, subscription] of this.#subscriptions) {
      const { kind, label } = subscription;
      const arriving = [...this.#open].filter(
        ([number, one]) => !settled.has(number) && one.isOf(kind, label),
      ).length;
      const most = Math.min(share, (subscription.room?.() ?? share) - arriving);
      if (most > 0) wishes.set(key, most);
    }
    return wishes;
  }

  /** In a rolling deploy a unit that an older release took would soon have to move again. */
  #minAge(): number {
    const { others, started } = this.#seat;
    const own = this.#release;
    const since = new Map<string | undefined, number>([[own, started]]);
    for (const { release, started: at, draining } of others) {
      if (!draining) since.set(release, Math.min(since.get(release) ?? at, at));
    }
    const newest = [...since].toSorted(([, a], [, b]) => b - a)[0]![0];
    return newest === own ? 0 : OLDER_RELEASE_WAITS;
  }

  get #release(): string | undefined {
    return this.#seat.release;
  }

  /** Others may have taken over what was being taken here. */
  #lose(): void {
    const open = [...this.#open.values()];
    this.#open.clear();
    this.#taken = [];
    this.#refused = [];
    this.#postponed.clear();
    this.#isUncertain = false;
    this.#retried.clear();
    for (const one of open) one.abort();
  }
}

/** ms between two looks while something is open, if nothing wakes. */
const POLL = 250;

/** ms after which a step is done or not done whose connection has ended. */
const LATEST_STEP = 5_000;

/** ms */
const OLDER_RELEASE_WAITS = 2_000;
