import { deferred, type Deferred } from "../../util/deferred.js";
import { LATE, within } from "../../util/timeout.js";
import { decode, type Envelope } from "../schema.js";
import type { Claim, Verdict } from "../../exchange/exchange.js";
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
  readonly envelope: Envelope<unknown>;
  readonly take: Take;
  isBusy: boolean;
}

/** State that waits here for a subscriber. */
interface Waiting {
  readonly parcel: Parcel;
  readonly claim: Claim;
  readonly settle: (verdict: Verdict) => void;
  readonly refusedBy: Set<Envelope<unknown>>;
  isBusy: boolean;
}

/** The subscribers of one label, and what has arrived for them: the oldest first, each taken by one. */
export class SlotTakers {
  readonly #waiting = new Set<Waiting>();
  readonly #subscribers = new Set<Subscriber>();
  /** Of the next one. */
  #arrival: Deferred<void> | undefined;

  subscribe(envelope: Envelope<unknown>, take: Take): () => void {
    // The envelope is copied, as it stands for the subscriber among those that have refused.
    const subscriber = { envelope: { ...envelope }, take, isBusy: false };
    this.#subscribers.add(subscriber);
    // Not before the caller has what ends it.
    queueMicrotask(() => this.#serve());
    return () => void this.#subscribers.delete(subscriber);
  }

  /** Settles when somebody has taken it, or it was withdrawn. */
  take(parcel: Parcel, claim: Claim): Promise<Verdict> {
    return new Promise((settle) => {
      const waiting = { parcel, claim, settle, refusedBy: new Set<Envelope<unknown>>(), isBusy: false };
      this.#waiting.add(waiting);
      this.#arrival?.resolve();
      this.#arrival = undefined;
      claim.signal.addEventListener("abort", () => this.#waiting.delete(waiting), { once: true });
      this.#serve();
    });
  }

  complete<T>(envelope: Envelope<T>): SlotState<T>[] {
    return [...this.#waiting].flatMap((waiting) => {
      if (waiting.isBusy) return [];
      try {
        const state = stateOf(waiting, envelope);
        this.#settle(waiting);
        return [state];
      } catch (error) {
        waiting.claim.note(refusalOf(error));
        return [];
      }
    });
  }

  /** How many wait, or are being taken. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Waits for at most `timeout` ms until something waits here. */
  async arrival(timeout: number): Promise<void | typeof LATE> {
    if (this.size > 0) return undefined;
    this.#arrival ??= deferred();
    return within(timeout, this.#arrival.promise);
  }

  /** Takes away what nobody takes here; of live owners there is nothing any more when this is called. */
  takeAway(): Parcel[] {
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
      const subscriber = idle.find(({ envelope }) => !waiting.refusedBy.has(envelope));
      if (subscriber !== undefined) void this.#give(waiting, subscriber);
    }
  }

  async #give(waiting: Waiting, subscriber: Subscriber): Promise<void> {
    waiting.isBusy = subscriber.isBusy = true;
    try {
      await subscriber.take(stateOf(waiting, subscriber.envelope));
      this.#settle(waiting);
    } catch (error) {
      waiting.refusedBy.add(subscriber.envelope);
      waiting.claim.note(refusalOf(error));
    } finally {
      waiting.isBusy = subscriber.isBusy = false;
      this.#serve();
    }
  }

  #settle(waiting: Waiting): void {
    if (this.#waiting.delete(waiting)) waiting.settle("taken");
  }
}

function stateOf<T>({ parcel, claim }: Waiting, envelope: Envelope<T>): SlotState<T> {
  const { label, id, version } = parcel;
  const { fence, signal } = claim;
  return { label, id, version, data: decode(envelope, parcel), fence, signal };
}
