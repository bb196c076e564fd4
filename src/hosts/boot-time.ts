import { uptime } from "node:os";

/** The last reading, and when it was made on the clock of `performance.now()`; undefined in another turn. */
let last: { readonly time: number; readonly at: number } | undefined;

/** ms since the host has started, also of time in which it was suspended. All processes of a host read one clock. */
export function bootTime(): number {
  const at = performance.now();
  // It is read for each unit that moves, and each reading opens a file. One does for a turn of the event loop, if that is short.
  if (last !== undefined && at - last.at < EXACTNESS) return last.time;
  if (last === undefined) queueMicrotask(() => (last = undefined));
  // From /proc/uptime: the clock of the kernel that counts suspension, and that a wrong date does not change.
  last = { time: uptime() * 1_000, at };
  return last.time;
}

/** ms. The kernel gives hundredths of a second. */
const EXACTNESS = 1;
