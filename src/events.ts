import { channel } from "node:diagnostics_channel";
import { debuglog } from "node:util";
import type { Ended } from "./core/ending.js";
import type { HandoverError } from "./errors.js";
import type { Timings, UpgradeRecord } from "./record.js";
import type { Outcome } from "./lifecycle.js";

/** What came of an upgrade, at its commit. */
export interface UpgradeResult {
  /** Of the successor. */
  pid: number;
  generation: number;
  timings: Timings;
  /** The end of probation. */
  settled: Promise<"kept" | "rolledBack">;
}

/** What came of a rehearsal: the successor was ready, and is gone. */
export interface Rehearsal {
  /** It had. */
  pid: number;
  generation: number;
  timings: Pick<Timings, "spawn" | "ready">;
}

/** Tells of an event. */
export type Tell = <E extends keyof UpgraderEvents>(event: E, payload: UpgraderEvents[E][0]) => void;

/** The events of an `Upgrader`, each with one payload. */
export interface UpgraderEvents {
  /** This process accepts. */
  ready: [{ generation: number }];
  /** This process was only tried: it is ended right after. */
  rehearsed: [{ generation: number }];
  /** A successor was started. */
  upgrading: [{ pid: number; generation: number }];
  /** The successor accepts; its probation begins. */
  upgraded: [{ pid: number; generation: number; timings: Timings }];
  /** An upgrade was refused, or failed; this process is as it was. */
  failed: [{ error: HandoverError }];
  /** This process accepts no more, and `connections` have to end within `timeout` ms. */
  draining: [{ connections: number; timeout: number }];
  /** The successor died on probation, as `error` says; this process accepts again. */
  rollback: [{ pid: number; error: HandoverError }];
  /** An upgrade is over; heard in the process that serves on. */
  recorded: [UpgradeRecord];
  /**
   * The drain is over. `handedOver` connections moved to the successor; `stayed` tells by code why others did
   * not; `destroyed` ones did not end in time. `units` tells the same of each kind of units.
   */
  exit: [{ outcome: Outcome } & Ended];
}

/** Tells the subscribers of the diagnostics channel `handover:<event>`, and people under NODE_DEBUG=handover. */
export function publish<E extends keyof UpgraderEvents>(event: E, payload: UpgraderEvents[E][0]): void {
  const subscribers = channel(`handover:${event}`);
  if (subscribers.hasSubscribers) subscribers.publish(payload);
  debug("%s %o", event, payload);
}

const debug = debuglog("handover");
