/** Time, as a field that tests replace. */
export interface Clock {
  /** ms of a monotonic clock. */
  now(): number;
  /** Calls `run` once, `ms` from now. Returns a function that cancels the call. */
  after(ms: number, run: () => void): () => void;
}

/** ms; a longer timer of Node would fire at once. */
export const LONGEST_TIMEOUT = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};
