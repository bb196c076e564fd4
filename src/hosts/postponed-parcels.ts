import { pauseAt, SHORTEST_PAUSE } from "../exchange/parcel.js";
import type { Claimed } from "./engine.js";

/** Parcels that this process would take later: it leaves them to the other hosts until they are older. */
export class PostponedParcels {
  /** When each is asked for again, on the clock of `performance.now()`. */
  readonly #dueAt = new Map<number, number>();
  readonly #onDue: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(onDue: () => void) {
    this.#onDue = onDue;
  }

  get numbers(): ReadonlySet<number> {
    return new Set(this.#dueAt.keys());
  }

  add({ number, age }: Claimed): void {
    this.#dueAt.set(number, performance.now() + pauseAt(age));
    this.#timer ??= setTimeout(() => this.#release(), SHORTEST_PAUSE);
  }

  clear(): void {
    this.#dueAt.clear();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Of all that is due at once, so that thousands of parcels wake the process four times a second at most. */
  #release(): void {
    const now = performance.now();
    const due = [...this.#dueAt].filter(([, at]) => at <= now);
    for (const [number] of due) this.#dueAt.delete(number);
    this.#timer = this.#dueAt.size === 0 ? undefined : setTimeout(() => this.#release(), SHORTEST_PAUSE);
    if (due.length > 0) this.#onDue();
  }
}
