import { availableMemory, privateMemoryOf } from "../platform/memory.js";
import { report } from "./report.js";

/** The memory of the system, in bytes. */
interface Memory {
  available(): number;
  /** What only this process uses; undefined where that is unknown. */
  privateOf(pid: number): number | undefined;
}

/**
 * How many workers an upgrade replaces at a time: all, or one where the memory would not be enough for two sets of them.
 *
 * @param pids of the workers that serve
 * @param count of the workers that are to be started
 */
export function chooseRolling(pids: readonly number[], count: number, memory: Memory = SYSTEM): number {
  const sizes = pids.flatMap((pid) => memory.privateOf(pid) ?? []);
  if (sizes.length === 0 || count === 1) return count;
  const each = sizes.reduce((all, one) => all + one, 0) / sizes.length;
  const needed = each * count * MARGIN;
  const available = memory.available();
  if (needed <= available) return count;
  report(
    `memory is short: ${inMebibytes(available)} MiB are available, and ${count} new workers beside the old ones need about ` +
      `${inMebibytes(needed)} MiB; they are replaced one at a time`,
  );
  return 1;
}

const SYSTEM: Memory = { available: availableMemory, privateOf: privateMemoryOf };

/** What a new worker may need more than an old one has: it initializes, and caches fill. */
const MARGIN = 1.2;

function inMebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}
