import { channel, hasSubscribers } from "node:diagnostics_channel";
import type { DebugLogger } from "node:util";
import type { HandoverError } from "./errors.js";
import type { Outcome } from "./lifecycle.js";
import { builtins } from "./platform/builtins.js";

/** The events of an `Upgrader`, each with one payload. */
export interface UpgraderEvents {
  /** This process accepts. */
  ready: [{ generation: number }];
  /** This process was started by a rehearsal; it exits right after this event. */
  rehearsed: [{ generation: number }];
  /** A successor was started; or one that was `staged` is used. */
  upgrading: [{ pid: number; generation: number; staged?: true }];
  /** A successor is ready, and is held for a later upgrade. */
  staged: [Staged];
  /** The successor that was held is gone, and `reason` says why. The next upgrade starts another one. */
  unstaged: [{ pid: number; generation: number; reason: string }];
  /** The successor accepts; its probation begins. */
  upgraded: [{ pid: number; generation: number; timings: Timings; staged: boolean }];
  /** An upgrade was refused or failed; this process keeps serving. Or a step after the commit failed, or the channel. */
  failed: [{ error: HandoverError }];
  /** This process has stopped accepting. Its `connections` have to move or end within `timeout` ms. */
  draining: [{ connections: number; timeout: number }];
  /** The successor died on probation, as `error` says; this process accepts again. */
  rollback: [{ pid: number; error: HandoverError }];
  /** An upgrade is over. Emitted in the process that serves after it. */
  recorded: [UpgradeRecord];
  /** The drain is over, and a rollback is impossible. `error`: the channel to the successor has failed after probation. */
  exit: [{ outcome: Outcome; error?: HandoverError } & DrainSummary];
}

/** Emits one event of {@link UpgraderEvents}. */
export type Emit = <E extends keyof UpgraderEvents>(event: E, payload: UpgraderEvents[E][0]) => void;

/** Publishes an event on the diagnostics channel `handover:<event>`, and prints it under NODE_DEBUG=handover. */
export function publish<E extends keyof UpgraderEvents>(event: E, payload: UpgraderEvents[E][0]): void {
  const name = `handover:${event}`;
  if (hasSubscribers(name)) channel(name).publish(payload);
  if (process.env["NODE_DEBUG"]) (debug ??= builtins.util.debuglog("handover"))("%s %o", event, payload);
}

let debug: DebugLogger | undefined;

/** The result of an upgrade at its commit. */
export interface UpgradeResult {
  /** The successor's. */
  pid: number;
  generation: number;
  timings: Timings;
  /** Whether the successor had been staged: it was ready before the request. */
  staged: boolean;
  /** Under a supervisor, whose PID is named then: the number of new workers. */
  workers?: number;
  /** Resolves at the end of probation. */
  settled: Promise<"confirmed" | "rolledBack">;
}

/** The result of a rehearsal: the successor became ready, and has exited. */
export interface Rehearsal {
  /** The successor's. */
  pid: number;
  generation: number;
  /** Under a supervisor, whose PID is named then: the number of workers that were started. */
  workers?: number;
  timings: Pick<Timings, "spawn" | "ready">;
}

/** A successor that is ready, and is held for a later upgrade. */
export interface Staged {
  /** The successor's. */
  pid: number;
  generation: number;
  /** When it is thrown away, in ms since 1970. */
  expires: number;
  /** Under a supervisor, whose PID is named then: the number of workers that are held. */
  workers?: number;
}

/** One upgrade of the service. */
export interface UpgradeRecord {
  /** When it began, in ms since 1970. */
  at: number;
  /** The generation that was upgraded. */
  from: number;
  /** The generation of the successor. */
  to: number;
  /** The successor's, if it was started. */
  pid?: number;
  outcome: UpgradeOutcome | "running" | "probation";
  /** The error of an upgrade that failed or was rolled back. */
  code?: string;
  reason?: string;
  /** Present if the upgrade reached its commit. */
  timings?: Timings;
}

/** The phases of one upgrade, in ms. */
export interface Timings {
  /** From the request until the successor's process was started; 0 if it had been staged. */
  spawn: number;
  /** From the start until the successor was ready; if it had been staged, until it answered that it still is. */
  ready: number;
  /** From there until the successor was told to accept. */
  commit: number;
}

/** How an upgrade ended. */
export type UpgradeOutcome = "confirmed" | "rolledBack" | "failed";

/** How many connections moved to the successor, and why others did not. */
export interface MoveCounts {
  moved: number;
  /** Connections that did not move, by the code of the refusal. */
  stayed: Record<string, number>;
}

/** How the connections of a process ended. */
export interface ConnectionSummary extends MoveCounts {
  /** Connections that had not ended at the deadline of the drain. */
  destroyed: number;
  /** Connections that were offered, and whose settlement did not come: each continues in the successor, or has ended. */
  unsettled: number;
}

/** How the units of one kind ended. */
export interface DrainReport {
  /** Units that run in the successor now. */
  moved: number;
  /**
   * Units that could be neither moved nor stopped: three successors died taking them, `stop` failed or timed out, or the
   * successor never confirmed.
   */
  failed: number;
  /** Units that ended here, by `stop`. */
  stopped: number;
  /** How long the drain took, in ms. */
  ms: number;
  /** Processes that take units of this kind. */
  peers: number;
  /** Why units did not move, by code. */
  failures: Record<string, number>;
}

/** How everything that a process held ended. */
export interface DrainSummary extends ConnectionSummary {
  /** By the kind of the units. */
  units: Record<string, DrainReport>;
}

/** How a process has left the service: how what it held has ended. */
export interface Departure {
  /** That it had when it began to drain. */
  connections: number;
  summary: DrainSummary;
}

export function noSummary(): DrainSummary {
  return { moved: 0, stayed: {}, destroyed: 0, unsettled: 0, units: {} };
}
