import { readFileSync } from "node:fs";

/** What a host has appended to the log, at a time in µs on the clock of the machine. */
export interface Entry {
  readonly event: "run" | "abort" | "stop";
  readonly pid: number;
  readonly at: number;
  readonly id: string;
  readonly fence: number;
  /** Of the state: each freeze makes one. */
  readonly token?: string;
}

/** Of hosts that have appended to one file (`on-several-hosts.js`). */
export function readLog(file: string): Entry[] {
  const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Entry);
}

/**
 * Runs of one unit that began before an earlier one had ended.
 *
 * @param killed when processes were killed, by PID
 */
export function overlaps(log: readonly Entry[], killed: ReadonlyMap<number, number>): Entry[][] {
  const found: Entry[][] = [];
  const ends = new Map<string, Entry>();
  for (const entry of log) if (entry.event === "abort") ends.set(`${entry.id} ${entry.fence}`, entry);
  const last = new Map<string, Entry>();
  for (const run of log.filter(({ event }) => event === "run").toSorted((a, b) => a.at - b.at)) {
    const former = last.get(run.id);
    last.set(run.id, run);
    if (former === undefined) continue;
    const end = ends.get(`${former.id} ${former.fence}`)?.at ?? killed.get(former.pid) ?? Infinity;
    if (end > run.at) found.push([former, run]);
  }
  return found;
}

/** Runs with a fence that is not higher than the one before. */
export function smallerFences(log: readonly Entry[]): Entry[][] {
  const last = new Map<string, Entry>();
  const found: Entry[][] = [];
  for (const run of log.filter(({ event }) => event === "run").toSorted((a, b) => a.at - b.at)) {
    const former = last.get(run.id);
    if (former !== undefined && former.fence >= run.fence) found.push([former, run]);
    last.set(run.id, run);
  }
  return found;
}
