import type { Store } from "./store.js";
import { get, isAbsent, isUnchanged, put } from "./txn.js";

/** Numbers of offers that no other process of the service has. It asks for many at a time. */
export class OfferNumbers {
  readonly #store: Store;
  #next = 0;
  #end = 0;
  #reserving: Promise<void> = Promise.resolve();

  constructor(store: Store) {
    this.#store = store;
  }

  /** As many numbers, which follow each other. */
  async take(count: number): Promise<number[]> {
    const reserving = this.#reserving.then(async () => {
      if (this.#end - this.#next < count) await this.#reserveMore();
      const first = this.#next;
      this.#next += count;
      return Array.from({ length: count }, (_, n) => first + n);
    });
    this.#reserving = reserving.then(
      () => {},
      () => {},
    );
    return reserving;
  }

  async #reserveMore(): Promise<void> {
    const { keys, gateway } = this.#store;
    for (;;) {
      const [last] = (await gateway.read([get(keys.number)])).answers[0]!.entries;
      const first = Number(last?.value ?? 0) + 1;
      const end = first + RESERVED;
      const condition = last === undefined ? isAbsent(keys.number) : isUnchanged(last);
      // If the answer is lost, so are the numbers.
      if (!(await gateway.txn([condition], [put(keys.number, String(end))])).succeeded) continue;
      this.#next = first;
      this.#end = end;
      return;
    }
  }
}

/** Numbers. */
const RESERVED = 1_024;
