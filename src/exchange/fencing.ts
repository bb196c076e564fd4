/**
 * The fences of a process: numbers that grow with every change of owner, across generations. A database or a lock that
 * stores the last fence can refuse a former owner. They begin at the current time, so that the fences of a restarted
 * service are above the earlier ones.
 */
export class FencingTokens {
  #last = Date.now() * 1024;

  get last(): number {
    return this.#last;
  }

  next(): number {
    return ++this.#last;
  }

  /** Later fences are above `fence`. */
  advanceTo(fence: number): void {
    this.#last = Math.max(this.#last, fence);
  }

  /** Later fences are above all that another process has given away before it died. */
  skipAhead(): void {
    this.#last += SKIP;
  }
}

/** More than a process gives away in its probation; as a start time it is 16 s. */
const SKIP = 2 ** 24;
