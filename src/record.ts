import type { UpgradeOutcome } from "./metrics/totals.js";

/** One upgrade of the service. */
export interface UpgradeRecord {
  /** Of its beginning: ms since 1970. */
  at: number;
  /** Generations. */
  from: number;
  to: number;
  /** Of the successor, if it was started. */
  pid?: number;
  outcome: UpgradeOutcome | "running" | "probation";
  /** Why it did not succeed. */
  code?: string;
  reason?: string;
  /** If it reached its commit. */
  timings?: Timings;
}

/** Times of one upgrade, in ms. */
export interface Timings {
  /** From the request until the successor's process was started. */
  spawn: number;
  /** From there until it was ready. */
  ready: number;
  /** From there until it was told to accept. */
  commit: number;
}
