import type { FencingTokens } from "../exchange/fencing.js";
import type { RoleArbiter } from "../exchange/hosts.js";
import type { RoleEngine } from "./role-engine.js";
import type { Seat } from "./seat.js";

/** The roles that this seat has, with its fences, and those that it may acquire. */
export class EngineRoles implements RoleArbiter {
  readonly #engine: RoleEngine;
  readonly #seat: Seat;
  readonly #fences: FencingTokens;
  readonly #isAway: () => boolean;
  readonly #held = new Map<string, number>();
  readonly #onChange: (() => void)[] = [];

  /** @param isAway whether the engine does not answer and this process stops */
  constructor(engine: RoleEngine, seat: Seat, fences: FencingTokens, isAway: () => boolean) {
    this.#engine = engine;
    this.#seat = seat;
    this.#fences = fences;
    this.#isAway = isAway;
    seat.onLost(() => this.#held.clear());
    seat.onBeat(() => this.wake());
  }

  /** Of the seat, for the successor. */
  get held(): Record<string, number> {
    return Object.fromEntries(this.#held);
  }

  inherit(held: Record<string, number>): void {
    for (const [name, fence] of Object.entries(held)) {
      this.#fences.advanceTo(fence);
      this.#held.set(name, fence);
    }
    this.wake();
  }

  isHeld(name: string): boolean {
    return this.#held.has(name) && this.#seat.isHeld;
  }

  async acquire(name: string): Promise<number | undefined> {
    if (!this.#seat.isTaking) return undefined;
    const seat = this.#seat.id;
    // The process before this one had it: nothing is written.
    if (this.#held.has(name)) return this.#fences.next();
    const fence = await this.#engine.acquire(seat, name);
    if (fence === undefined || this.#seat.id !== seat || !this.#seat.isHeld) return undefined;
    this.#fences.advanceTo(fence);
    this.#held.set(name, fence);
    return fence;
  }

  async release(name: string): Promise<void> {
    if (!this.#held.delete(name)) return;
    const seat = this.#seat.id;
    // The role is free when the lease ends, at the latest: a process that stops need not stay for that.
    while (this.#seat.id === seat && this.#seat.isHeld && !this.#isAway()) {
      const isReleased = await this.#engine.release(seat, name, this.#fences.last).then(
        () => true,
        async () => new Promise<boolean>((resolve) => setTimeout(resolve, RETRY, false)),
      );
      if (isReleased) return;
    }
  }

  onChange(run: () => void): void {
    this.#onChange.push(run);
  }

  /** A role may have become free. */
  wake(): void {
    for (const run of this.#onChange) run();
  }
}

/** ms */
const RETRY = 100;
