/**
 * The fences of a process: numbers that grow with every change of owner, across generations, so that whoever guards
 * something else by them (a row, a file) can refuse an owner that is not one any more. They begin at the time, so
 * that a service that was started anew is above the one before.
 */
export class FencingTokens {
  #last = Date.now() * 1024;

  get last(): number {
    return this.#last;
  }

  next(): number {
    return ++this.#last;
  }

  /** From now on all are above `fence`. */
  advanceTo(fence: number): void {
    this.#last = Math.max(this.#last, fence);
  }

  /** From now on all are above those of another process that has died, whichever they were. */
  skipAhead(): void {
    this.#last += SKIP;
  }
}

/** More than a process gives away on probation; it is 16 s of the time at which they begin. */
const SKIP = 2 ** 24;
