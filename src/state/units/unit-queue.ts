import { codeOf, type RefusalCode } from "../../errors.js";
import { requireSync } from "../encoding.js";
import type { Unit } from "./live-unit.js";
import type { UnitKind } from "./unit-definition.js";

/** The order in which the units of one kind move; it changes while they do. */
export class UnitQueue {
  readonly #waiting = new Set<Unit>();
  /** The next unit last. A unit that has left {@link #waiting} is passed over. */
  readonly #stack: Unit[] = [];
  /** Units that the successor waits for, the one that was asked for first at the front; perhaps asked for before the drain. */
  readonly #expedited: Unit[] = [];
  /** The index of the next one in {@link #expedited}. */
  #nextExpedited = 0;

  /** Adds a unit, which moves before the units that were added earlier. */
  add(unit: Unit): void {
    this.#waiting.add(unit);
    this.#stack.push(unit);
  }

  /** The successor waits for a unit: it moves before the units that the successor does not wait for. */
  expedite(unit: Unit): void {
    this.#expedited.push(unit);
  }

  /** Takes out the next unit; undefined if the queue is empty. */
  next(): Unit | undefined {
    for (;;) {
      const isExpedited = this.#nextExpedited < this.#expedited.length;
      const unit = isExpedited ? this.#expedited[this.#nextExpedited++] : this.#stack.pop();
      if (unit === undefined || this.#waiting.delete(unit)) return unit;
    }
  }
}

/**
 * The units that may move, the next one last: the highest priority moves first, and of units with the same priority the
 * oldest. `count` is given the reasons why the others may not.
 */
export function byPriority(units: readonly Unit[], kind: UnitKind, count: (code: string) => void): Unit[] {
  const ranked: { unit: Unit; rank: number }[] = [];
  for (const unit of units) {
    try {
      if (isEligible(unit, kind)) ranked.push({ unit, rank: rankOf(unit, kind) });
      else count("ERR_NOT_ELIGIBLE" satisfies RefusalCode);
    } catch (error) {
      count(codeOf(error, "ERR_UNIT"));
    }
  }
  return ranked
    .toReversed()
    .toSorted((a, b) => a.rank - b.rank)
    .map(({ unit }) => unit);
}

function isEligible({ id, value }: Unit, { definition }: UnitKind): boolean {
  return requireSync("eligible()", definition.eligible?.(id, value)) !== false;
}

/** A priority that is not a number counts as 0: a unit is not stopped because of it. */
function rankOf({ id, value }: Unit, { definition }: UnitKind): number {
  return Number(requireSync("priority()", definition.priority?.(id, value))) || 0;
}
