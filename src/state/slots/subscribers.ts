import type { Delivery, TakeResult } from "../../exchange/exchange.js";
import { refusalOf, type Parcel } from "../../exchange/parcel.js";
import { deferred, type Deferred } from "../../util/deferred.js";
import { TIMED_OUT, withTimeout } from "../../util/timeout.js";
import type { ResolvedSchema } from "../schema.js";
import { decode } from "../encoding.js";

/** State that has arrived. */
export interface SlotState<T> {
  readonly label: string;
  readonly id: string;
  /** The version in which the state was offered. `data` is migrated. */
  readonly version: number;
  readonly data: T;
  /** Above that of every earlier owner. */
  readonly fence: number;
  /** Aborts if the state is taken back: undo what was begun with it. */
  readonly signal: AbortSignal;
}

type Take = (state: SlotState<unknown>) => unknown;

interface Subscriber {
  readonly schema: ResolvedSchema<unknown>;
  readonly take: Take;
  isBusy: boolean;
}

/** A parcel that waits for a subscriber, or is being taken by one. */
interface Waiting {
  readonly parcel: Parcel;
  readonly delivery: Delivery;
  readonly settle: (result: TakeResult) => void;
  readonly refusedBy: Set<Subscriber>;
  isBusy: boolean;
}

/** The subscribers of one label, and the parcels that have arrived for them. Each parcel is taken by one, the oldest first. */
export class SlotSubscribers {
  readonly #waiting = new Set<Waiting>();
  readonly #subscribers = new Set<Subscriber>();
  /** Resolves at the next arrival. */
  #arrival: Deferred<void> | undefined;

  /** Returns a function that ends the subscription. */
  subscribe(schema: ResolvedSchema<unknown>, take: Take): () => void {
    const subscriber = { schema, take, isBusy: false };
    this.#subscribers.add(subscriber);
    // The caller has the function that ends the subscription before `take` is called.
    queueMicrotask(() => this.#serve());
    return () => void this.#subscribers.delete(subscriber);
  }

  /** Resolves when a subscriber has taken the parcel. */
  take(parcel: Parcel, delivery: Delivery): Promise<TakeResult> {
    return new Promise((settle) => {
      const waiting = { parcel, delivery, settle, refusedBy: new Set<Subscriber>(), isBusy: false };
      this.#waiting.add(waiting);
      this.#arrival?.resolve();
      this.#arrival = undefined;
      delivery.signal.addEventListener("abort", () => this.#waiting.delete(waiting), { once: true });
      this.#serve();
    });
  }

  /** Takes all parcels that `schema` accepts and that no subscriber is taking. */
  complete<T>(schema: ResolvedSchema<T>): SlotState<T>[] {
    return [...this.#waiting].flatMap((waiting) => {
      if (waiting.isBusy) return [];
      try {
        const state = stateOf(waiting, schema);
        this.#accept(waiting);
        return [state];
      } catch (error) {
        waiting.delivery.note(refusalOf(error));
        return [];
      }
    });
  }

  /** The number of parcels that wait, or are being taken. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Waits for at most `timeout` ms until a parcel waits here. */
  async nextArrival(timeout: number): Promise<void | typeof TIMED_OUT> {
    if (this.size > 0) return undefined;
    this.#arrival ??= deferred();
    return withTimeout(timeout, this.#arrival.promise);
  }

  /** Removes the parcels that no subscriber is taking. Their owners are dead: those of an owner that lives go to the successor now. */
  removeUntaken(): Parcel[] {
    const left = [...this.#waiting].filter(({ isBusy }) => !isBusy);
    for (const waiting of left) this.#waiting.delete(waiting);
    return left.map(({ parcel }) => parcel);
  }

  #serve(): void {
    for (const waiting of this.#waiting) {
      const idle = [...this.#subscribers].filter(({ isBusy }) => !isBusy);
      // Thousands of parcels may wait for one busy subscriber.
      if (idle.length === 0) return;
      if (waiting.isBusy) continue;
      const subscriber = idle.find((one) => !waiting.refusedBy.has(one));
      if (subscriber !== undefined) void this.#give(waiting, subscriber);
    }
  }

  async #give(waiting: Waiting, subscriber: Subscriber): Promise<void> {
    waiting.isBusy = subscriber.isBusy = true;
    try {
      await subscriber.take(stateOf(waiting, subscriber.schema));
      this.#accept(waiting);
    } catch (error) {
      waiting.refusedBy.add(subscriber);
      waiting.delivery.note(refusalOf(error));
    } finally {
      waiting.isBusy = subscriber.isBusy = false;
      this.#serve();
    }
  }

  #accept(waiting: Waiting): void {
    if (this.#waiting.delete(waiting)) waiting.settle("taken");
  }
}

function stateOf<T>({ parcel, delivery }: Waiting, schema: ResolvedSchema<T>): SlotState<T> {
  const { label, id, version } = parcel;
  const { fence, signal } = delivery;
  return { label, id, version, data: decode(schema, parcel), fence, signal };
}
