/**
 * The phases of a unit in one process, and the events that change them. This table is the only place that decides: a late
 * answer, a late `freeze` or a late `stop` reaches a unit whose phase has changed since, and must not change it again.
 */
export type UnitPhase =
  /** It runs here, or is about to: `run` or `freeze` may still be at work. */
  | "running"
  /** It has ended here, and its state is kept. */
  | "frozen"
  /** It is frozen, and the successor has not answered the offer yet. */
  | "offered"
  /** The successor has it, or may have it. A rollback brings it back. */
  | "taken"
  /** The successor has it, and a rollback is impossible. */
  | "moved"
  /** It has ended here: it was stopped or released, or `run` has failed. */
  | "ended"
  /** `stop` threw or was late. */
  | "failed";

export type UnitEvent =
  /** `freeze` has returned. */
  | "froze"
  /** The unit goes to the successor. */
  | "offered"
  /** The successor has taken the unit. */
  | "taken"
  /** The successor cannot answer, or has not until the end of the drain: the unit may run there. */
  | "unanswered"
  /** The successor has refused the unit, or is dead, or the offer was withdrawn. */
  | "returned"
  /** The successor has taken the unit, and its probation is over. */
  | "confirmed"
  /** The unit was stopped or released, or `run` has failed. */
  | "ended"
  /** `stop` threw or was late. */
  | "failed"
  /** A rollback: this process serves again. */
  | "restarted";

/** The phase after `event`. An event that means nothing in `phase` changes nothing. */
export function nextPhase(phase: UnitPhase, event: UnitEvent): UnitPhase {
  return TABLE[phase][event] ?? phase;
}

const TABLE: Readonly<Record<UnitPhase, Partial<Record<UnitEvent, UnitPhase>>>> = {
  running: { froze: "frozen", ended: "ended", failed: "failed" },
  frozen: { offered: "offered", ended: "ended", failed: "failed", restarted: "running" },
  offered: { taken: "taken", unanswered: "taken", returned: "frozen", restarted: "running" },
  taken: { confirmed: "moved", returned: "frozen", restarted: "running" },
  moved: {},
  ended: { restarted: "running" },
  failed: { restarted: "running" },
};
