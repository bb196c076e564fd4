// What a benchmark has started ends with it, also if a signal ends it: its servers are in process groups of their own, and would go
// on for ever.
import { constants } from "node:os";

const steps = [];

/**
 * Does `step` at the end of the benchmark.
 *
 * @returns a function that does it earlier. It is done once
 */
export function atEnd(step) {
  let isDone = false;
  let result;
  const once = () => {
    if (!isDone) {
      isDone = true;
      result = step();
    }
    return result;
  };
  steps.push(once);
  return once;
}

/** Does all steps, the last one first, and waits for those that take time. Another call waits for them, too. */
export async function endAll() {
  for (const step of steps.toReversed()) {
    try {
      const done = step();
      // Where none takes time all are done in this turn.
      if (done instanceof Promise) await done;
    } catch (error) {
      console.error(`the end of the benchmark: ${error.message}`);
    }
  }
}

/** Ends a benchmark that cannot go on, whose steps take no time. */
export function fail(why) {
  console.error(`\nfailed: ${why}`);
  void endAll();
  process.exit(1);
}

for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"])
  process.once(signal, () => void endAll().finally(() => process.exit(128 + constants.signals[signal])));
