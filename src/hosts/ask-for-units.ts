import { HandoverError, type UnitOwner } from "../errors.js";

/** By the ids of units: the fence of one that the seat owns now, or the seat that owns it. */
export type UnitOwners = Map<string, number | UnitOwner>;

/**
 * Asks an engine for units until each has an owner; in the order of `ids`.
 *
 * @param ask asks for units once, and adds the owners that it has found. It finds none of a unit that is given up meanwhile.
 */
export async function askForUnits(
  ids: readonly string[],
  ask: (left: readonly string[], owners: UnitOwners) => Promise<void>,
): Promise<(number | UnitOwner)[]> {
  const owners: UnitOwners = new Map();
  try {
    let left = [...new Set(ids)];
    for (let attempt = 0; left.length > 0 && attempt < ATTEMPTS; attempt++) {
      await ask(left, owners);
      left = left.filter((id) => !owners.has(id));
    }
    return ids.map((id) => {
      const owner = owners.get(id);
      if (owner !== undefined) return owner;
      throw new HandoverError("ERR_EXCHANGE", `the owner of the unit "${id}" changes all the time`);
    });
  } catch (error) {
    // The seat may own units of the earlier questions: it must not be said to own none.
    if (owners.size > 0) Object.assign(error as Error, { isAmbiguous: true });
    throw error;
  }
}

/** How often a unit is asked for whose owner changes. */
const ATTEMPTS = 10;
