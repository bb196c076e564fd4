import type { DrainSummary, Timings, UpgradeOutcome } from "../events.js";

/** The counts of a service over all its generations. */
export interface Totals {
  /** By outcome. */
  upgrades: Record<UpgradeOutcome, number>;
  /**
   * Connections of processes that were replaced or stopped: moved to the successor, ended by themselves, destroyed, or
   * offered without a settlement.
   */
  connections: { moved: number; drained: number; destroyed: number; unsettled: number };
  units: { moved: number; failed: number; stopped: number };
  /** in s: the phases of upgrades that reached their commit */
  durations: Record<"spawn" | "ready" | "commit", Distribution>;
}

/** A histogram: how many values did not exceed each of {@link BOUNDS}, their number and their sum. */
export interface Distribution {
  counts: number[];
  count: number;
  sum: number;
}

/** in s: the upper bounds of the buckets */
export const BOUNDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
] as const;

export function noTotals(): Totals {
  return {
    upgrades: { confirmed: 0, rolledBack: 0, failed: 0 },
    connections: { moved: 0, drained: 0, destroyed: 0, unsettled: 0 },
    units: { moved: 0, failed: 0, stopped: 0 },
    durations: { spawn: noDistribution(), ready: noDistribution(), commit: noDistribution() },
  };
}

/**
 * How what a process held has ended.
 *
 * @param connections that it had when it began to drain
 */
export function endsOf(
  connections: number,
  { moved, destroyed, unsettled, units }: DrainSummary,
): Pick<Totals, "connections" | "units"> {
  const drained = Math.max(0, connections - moved - destroyed - unsettled);
  const kinds = Object.values(units).map((one) => ({
    moved: one.moved,
    failed: one.failed,
    stopped: one.stopped,
  }));
  return {
    connections: { moved, drained, destroyed, unsettled },
    units: kinds.reduce((sum, one) => add(sum, one), noTotals().units),
  };
}

/** Adds the phases of an upgrade to the distributions of a service. */
export function observePhases(durations: Totals["durations"], timings: Timings): void {
  for (const phase of ["spawn", "ready", "commit"] as const)
    observe(durations[phase], timings[phase] / 1_000);
}

/** Adds a value to a distribution. */
function observe(distribution: Distribution, seconds: number): void {
  distribution.count++;
  distribution.sum += seconds;
  BOUNDS.forEach((bound, n) => {
    if (seconds <= bound) distribution.counts[n]!++;
  });
}

/** Adds two objects of numbers, number by number. A number that only one of them has is taken over. */
export function add<T>(a: T, b: T): T {
  if (typeof a === "number" && typeof b === "number") return (a + b) as T;
  if (Array.isArray(a) && Array.isArray(b)) return a.map((item, n) => add<unknown>(item, b[n] ?? 0)) as T;
  const [one, other] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return Object.fromEntries(
    [...names].map((name) => [
      name,
      name in one && name in other ? add(one[name], other[name]) : (one[name] ?? other[name]),
    ]),
  ) as T;
}

/** The sum of all numbers in a value. */
export function sumOf(value: unknown): number {
  if (typeof value === "number") return value;
  return Object.values(value as object).reduce<number>((sum, one) => sum + sumOf(one), 0);
}

function noDistribution(): Distribution {
  return { counts: BOUNDS.map(() => 0), count: 0, sum: 0 };
}
