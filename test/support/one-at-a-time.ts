import { expect } from "vitest";
import type { Line } from "./service.js";

/** When processes were killed, by PID, on the clock of `process.hrtime`. */
type Deaths = ReadonlyMap<number, bigint>;

/** That each unit ran in one process at a time, with a fence above that of every run before. */
export function expectOneRunAtATime(lines: readonly Line[], deaths: Deaths = new Map()): void {
  expectOneAtATime(lines, { of: "id", begin: "run", end: "abort" }, deaths);
}

/** That each role was released before another process began to acquire it, with a higher fence. */
export function expectOneHolderAtATime(lines: readonly Line[], deaths: Deaths = new Map()): void {
  expectOneAtATime(lines, { of: "role", begin: "acquire", end: "released" }, deaths);
}

/** @param names of the field that says what is owned, and of the events that begin and end it */
function expectOneAtATime(
  lines: readonly Line[],
  names: { of: string; begin: string; end: string },
  deaths: Deaths,
): void {
  /** By the PID of the process. */
  const owners = new Map<unknown, number>();
  const wrong: Line[] = [];
  const fences = new Map<unknown, number>();
  const happened = lines.filter(({ event }) => event === names.begin || event === names.end);
  for (const line of happened.toSorted((a, b) => Number(a["at"]) - Number(b["at"]))) {
    const { event, fence, at, pid } = line;
    const owned = line[names.of];
    const owner = owners.get(owned);
    if (event === names.end) {
      if (owner === pid) owners.delete(owned);
      continue;
    }
    const died = owner === undefined ? undefined : deaths.get(owner);
    const isAlone = owner === undefined || (died !== undefined && died < BigInt(Number(at)));
    if (!isAlone || (fences.get(owned) ?? 0) >= Number(fence)) wrong.push(line);
    owners.set(owned, pid);
    fences.set(owned, Number(fence));
  }
  expect(wrong).toEqual([]);
  expect(fences.size).toBeGreaterThan(0);
}
