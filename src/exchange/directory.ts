import type { UnitOwner } from "../errors.js";
import type { Peer } from "./parcel.js";

/** The right to run a unit, until it is given up. A later one of the same unit has a higher fence. */
export interface Ownership {
  readonly id: string;
  readonly fence: number;
}

/** The answer to one question for a unit: the fence of this process, or the process that owns the unit. */
export type OwnResult = { readonly fence: number } | { readonly owner: UnitOwner };

/**
 * Which process owns which unit. Every process of the service asks the same directory before it runs a unit, and a unit has
 * one owner at any moment. It holds no state of units.
 *
 * A process that takes a unit from another one owns it before it runs it. The former owner can still have it back: it owns the
 * unit again when the new one gives it up or dies, until it gives up the unit itself. So each process gives up every unit that
 * it has owned, however the unit has left it, and a move needs no further word.
 */
export interface Directory {
  /**
   * Asks for units of a kind. Each is answered by itself, in the order of `ids`. A unit of no process, or of one that has died,
   * is this process's then; so is one that it owns already, with a higher fence.
   *
   * @param from the process that offers the units to this one; if it still owns them, they are this process's
   * @throws {HandoverError} if the directory cannot be asked
   */
  own(kind: string, ids: readonly string[], from?: Peer): Promise<readonly OwnResult[]>;
  /**
   * Gives units up. An ownership with another fence than the last one of this process is ignored: it is over already. What
   * this process asks later is answered after it. Never throws.
   */
  disown(kind: string, units: readonly Ownership[]): void;
  /**
   * The owner of a unit; undefined if it has none.
   *
   * @throws {HandoverError} if the directory cannot be asked
   */
  where(kind: string, id: string): Promise<UnitOwner | undefined>;
  /**
   * When what keeps the directory has last answered, on the clock of `performance.now()`. Undefined if it answers all that is asked
   * at once together.
   */
  readonly lastAnswer?: number;
}
