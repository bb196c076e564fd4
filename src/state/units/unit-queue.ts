import { codeOf, type RefusalCode } from "../../errors.js";
import { requireSync } from "../schema.js";
import type { Unit } from "./unit.js";
import type { UnitKind } from "./definition.js";

/** Units that are to move, in an order that changes while they do. */
export class UnitQueue {
  readonly #waiting = new Set<Unit>();
  /** The next one last. One that does not wait any more is passed over. */
  readonly #stack: Unit[] = [];
  /** Somebody waits for these, for the first one the longest: they go before the others. */
  readonly #expedited: Unit[] = [];
  /** Of the next one that is hurried. */
  #turn = 0;

  /** It goes before those that were added earlier. */
  add(unit: Unit): void {
    this.#waiting.add(unit);
    this.#stack.push(unit);
  }

  /** Somebody waits for it: it goes before those for which nobody does. */
  expedite(unit: Unit): void {
    if (this.#waiting.has(unit)) this.#expedited.push(unit);
  }

  /** Takes out the next one; undefined if none is left. */
  next(): Unit | undefined {
    for (;;) {
      const isHurried = this.#turn < this.#expedited.length;
      const unit = isHurried ? this.#expedited[this.#turn++] : this.#stack.pop();
      if (unit === undefined || this.#waiting.delete(unit)) return unit;
    }
  }
}

/**
 * Those that may move, the next one last: the highest priority first, and of those with the same the oldest. Why others
 * may not is counted.
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

function isEligible({ id, unit }: Unit, { definition }: UnitKind): boolean {
  return requireSync("eligible()", definition.eligible?.(id, unit)) !== false;
}

/** What is no number ranks as 0: it is no reason to stop a unit. */
function rankOf({ id, unit }: Unit, { definition }: UnitKind): number {
  return Number(requireSync("priority()", definition.priority?.(id, unit))) || 0;
}
