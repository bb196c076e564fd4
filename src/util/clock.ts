/** Time, as a field that tests replace. */
export interface Clock {
  /** ms of a monotonic clock. */
  now(): number;
  /** Calls `run` once, `ms` from now. Returns a function that cancels the call. */
  after(ms: number, run: () => void): () => void;
}

/**
 * Waits for another process for `ms`. Returns a function that ends the wait. A timer that is late runs before the input that
 * came while this process was busy: without a look at it, a process that has answered in time would be taken for silent.
 *
 * @param read reads what has arrived, without waiting for the event loop; it may end the wait
 * @param onLate called once, when nothing in that input has ended the wait
 */
export function awaitInput(clock: Clock, ms: number, read: () => void, onLate: () => void): () => void {
  let isLate: NodeJS.Immediate | undefined;
  const cancel = clock.after(ms, () => {
    isLate = setImmediate(onLate);
    read();
  });
  return () => {
    cancel();
    clearImmediate(isLate);
  };
}

/** ms; a longer timer of Node would fire at once. */
export const LONGEST_TIMEOUT = 2 ** 31 - 1;

export const systemClock: Clock = {
  now() {
    // Node 20 loads another module for performance.now(), which a supervisor needs for nothing else.
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1e3 + nanoseconds / 1e6;
  },
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};
