import type { LiveUnit } from "./live-unit.js";

/** Units that are to move, in an order that changes while they do. */
export class UnitQueue {
  readonly #waiting = new Set<LiveUnit>();
  /** The next one last. One that does not wait any more is passed over. */
  readonly #stack: LiveUnit[] = [];
  /** Somebody waits for these, for the first one the longest: they go before the others. */
  readonly #hurried: LiveUnit[] = [];
  /** Of the next one that is hurried. */
  #turn = 0;

  /** It goes before those that were added earlier. */
  add(unit: LiveUnit): void {
    this.#waiting.add(unit);
    this.#stack.push(unit);
  }

  /** Somebody waits for it: it goes before those for which nobody does. */
  hurry(unit: LiveUnit): void {
    if (this.#waiting.has(unit)) this.#hurried.push(unit);
  }

  /** Takes out the next one; undefined if none is left. */
  next(): LiveUnit | undefined {
    for (;;) {
      const isHurried = this.#turn < this.#hurried.length;
      const unit = isHurried ? this.#hurried[this.#turn++] : this.#stack.pop();
      if (unit === undefined || this.#waiting.delete(unit)) return unit;
    }
  }
}
