import { expect } from "vitest";
import type { Line } from "./service.js";

/**
 * That each role was released before another process began to acquire it, with a higher fence.
 *
 * @param deaths when processes were killed, by PID, on the clock of `process.hrtime`
 */
export function expectOneHolderAtATime(
  lines: readonly Line[],
  deaths: ReadonlyMap<number, bigint> = new Map(),
): void {
  const holders = new Map<unknown, Line>();
  const wrong: Line[] = [];
  const fences = new Map<unknown, number>();
  const happened = lines.filter(({ event }) => event === "acquire" || event === "released");
  for (const line of happened.toSorted((a, b) => Number(a["at"]) - Number(b["at"]))) {
    const { role, event, fence } = line;
    const holder = holders.get(role);
    const died = holder === undefined ? undefined : deaths.get(holder.pid);
    if (event === "released") holders.delete(role);
    else {
      const isAlone = holder === undefined || (died !== undefined && died < BigInt(Number(line["at"])));
      if (!isAlone || (fences.get(role) ?? 0) >= Number(fence)) wrong.push(line);
      holders.set(role, line);
      fences.set(role, Number(fence));
    }
  }
  expect(wrong).toEqual([]);
  expect(fences.size).toBeGreaterThan(0);
}
