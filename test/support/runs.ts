import { expect } from "vitest";
import type { Line } from "./service.js";

/**
 * That each unit ran in one process at a time, with a fence above that of every run before.
 *
 * @param deaths when processes were killed, by PID, on the clock of `process.hrtime`
 */
export function expectOneRunAtATime(
  lines: readonly Line[],
  deaths: ReadonlyMap<number, bigint> = new Map(),
): void {
  /** The PID of the process that runs a unit. */
  const running = new Map<unknown, number>();
  const wrong: Line[] = [];
  const fences = new Map<unknown, number>();
  const happened = lines.filter(({ event }) => event === "run" || event === "abort");
  for (const line of happened.toSorted((a, b) => Number(a["at"]) - Number(b["at"]))) {
    const { event, id, fence, at, pid } = line;
    if (event === "abort") {
      if (running.get(id) === pid) running.delete(id);
      continue;
    }
    const other = running.get(id);
    const died = other === undefined ? undefined : deaths.get(other);
    const isAlone = other === undefined || (died !== undefined && died < BigInt(Number(at)));
    if (!isAlone || (fences.get(id) ?? 0) >= Number(fence)) wrong.push(line);
    running.set(id, pid);
    fences.set(id, Number(fence));
  }
  expect(wrong).toEqual([]);
  expect(fences.size).toBeGreaterThan(0);
}
