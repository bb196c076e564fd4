import { TIMED_OUT, withTimeout } from "../../util/timeout.js";

/** Callers of `start()` that wait for a unit which a predecessor still has. */
export class Arrivals {
  readonly #callers = new Map<string, Set<() => void>>();

  /** Waits for the unit for at most `timeout` ms. Resolves with whether it has arrived. */
  async wait(id: string, timeout: number): Promise<boolean> {
    const callers = this.#callers.get(id) ?? new Set();
    this.#callers.set(id, callers);
    let wake!: () => void;
    const arrived = new Promise<void>((resolve) => callers.add((wake = resolve)));
    const result = await withTimeout(timeout, arrived);
    callers.delete(wake);
    if (callers.size === 0) this.#callers.delete(id);
    return result !== TIMED_OUT;
  }

  /** Wakes the callers that wait for the unit. */
  arrived(id: string): void {
    for (const wake of this.#callers.get(id) ?? []) wake();
  }
}
