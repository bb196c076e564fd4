import { uptime } from "node:os";

/** ms since the host has started, also of time in which it was suspended. All processes of a host read one clock. */
export function bootTime(): number {
  // From /proc/uptime: the clock of the kernel that counts suspension, and that a wrong date does not change.
  return uptime() * 1_000;
}
