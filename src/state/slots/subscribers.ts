import { deferred, type Deferred } from "../../util/deferred.js";
import { TIMED_OUT, withTimeout } from "../../util/timeout.js";
import { decode, type ResolvedSchema } from "../schema.js";
import type { Delivery, TakeResult } from "../../exchange/exchange.js";
import { refusalOf } from "../../exchange/inbox.js";
import type { Parcel } from "../../exchange/parcel.js";

/** State that has arrived. */
export interface SlotState<T> {
  readonly label: string;
  readonly id: string;
  /** In which it was handed on; the data is migrated. */
  readonly version: number;
  readonly data: T;
  /** Above that of every owner before. */
  readonly fence: number;
  /** Aborts if it is taken back: what was begun must be undone. */
  readonly signal: AbortSignal;
}

type Take = (state: SlotState<unknown>) => unknown;

interface Subscriber {
  readonly schema: ResolvedSchema<unknown>;
  readonly take: Take;
  isBusy: boolean;
}

/** State that waits here for a subscriber. */
interface Waiting {
  readonly parcel: Parcel;
  readonly delivery: Delivery;
  readonly settle: (result: TakeResult) => void;
  readonly refusedBy: Set<ResolvedSchema<unknown>>;
  isBusy: boolean;
}

/** The subscribers of one label, and what has arrived for them: the oldest first, each taken by one. */
export class SlotSubscribers {
  readonly #waiting = new Set<Waiting>();
  readonly #subscribers = new Set<Subscriber>();
  /** Of the next one. */
  #arrival: Deferred<void> | undefined;

  subscribe(schema: ResolvedSchema<unknown>, take: Take): () => void {
    // The schema is copied, as it stands for the subscriber among those that have refused.
    const subscriber = { schema: { ...schema }, take, isBusy: false };
    this.#subscribers.add(subscriber);
    // Not before the caller has what ends it.
    queueMicrotask(() => this.#serve());
    return () => void this.#subscribers.delete(subscriber);
  }

  /** Settles when somebody has taken it, or it was withdrawn. */
  take(parcel: Parcel, delivery: Delivery): Promise<TakeResult> {
    return new Promise((settle) => {
      const waiting = {
        parcel,
        delivery,
        settle,
        refusedBy: new Set<ResolvedSchema<unknown>>(),
        isBusy: false,
      };
      this.#waiting.add(waiting);
      this.#arrival?.resolve();
      this.#arrival = undefined;
      delivery.signal.addEventListener("abort", () => this.#waiting.delete(waiting), { once: true });
      this.#serve();
    });
  }

  complete<T>(schema: ResolvedSchema<T>): SlotState<T>[] {
    return [...this.#waiting].flatMap((waiting) => {
      if (waiting.isBusy) return [];
      try {
        const state = stateOf(waiting, schema);
        this.#settle(waiting);
        return [state];
      } catch (error) {
        waiting.delivery.note(refusalOf(error));
        return [];
      }
    });
  }

  /** How many wait, or are being taken. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Waits for at most `timeout` ms until something waits here. */
  async nextArrival(timeout: number): Promise<void | typeof TIMED_OUT> {
    if (this.size > 0) return undefined;
    this.#arrival ??= deferred();
    return withTimeout(timeout, this.#arrival.promise);
  }

  /** Takes away what nobody takes here; of live owners there is nothing any more when this is called. */
  removeUntaken(): Parcel[] {
    const left = [...this.#waiting].filter(({ isBusy }) => !isBusy);
    for (const waiting of left) this.#waiting.delete(waiting);
    return left.map(({ parcel }) => parcel);
  }

  #serve(): void {
    for (const waiting of this.#waiting) {
      const idle = [...this.#subscribers].filter(({ isBusy }) => !isBusy);
      // Thousands may wait for one.
      if (idle.length === 0) return;
      if (waiting.isBusy) continue;
      const subscriber = idle.find(({ schema }) => !waiting.refusedBy.has(schema));
      if (subscriber !== undefined) void this.#give(waiting, subscriber);
    }
  }

  async #give(waiting: Waiting, subscriber: Subscriber): Promise<void> {
    waiting.isBusy = subscriber.isBusy = true;
    try {
      await subscriber.take(stateOf(waiting, subscriber.schema));
      this.#settle(waiting);
    } catch (error) {
      waiting.refusedBy.add(subscriber.schema);
      waiting.delivery.note(refusalOf(error));
    } finally {
      waiting.isBusy = subscriber.isBusy = false;
      this.#serve();
    }
  }

  #settle(waiting: Waiting): void {
    if (this.#waiting.delete(waiting)) waiting.settle("taken");
  }
}

function stateOf<T>({ parcel, delivery }: Waiting, schema: ResolvedSchema<T>): SlotState<T> {
  const { label, id, version } = parcel;
  const { fence, signal } = delivery;
  return { label, id, version, data: decode(schema, parcel), fence, signal };
}
