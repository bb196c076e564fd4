import type { OfferKey } from "../hosts/engine.js";
import { batches } from "../util/batches.js";
import { readOwned } from "./keys.js";
import { readDone } from "./lots.js";
import { BATCH, type Store } from "./store.js";
import { get, list, type Entry } from "./txn.js";

/** Who has what is no longer on offer: of a unit its owner, of others the process that has taken it. */
export async function takersOf(
  store: Store,
  seat: string,
  gone: readonly OfferKey[],
): Promise<Map<number, string>> {
  const { keys, gateway } = store;
  const takers = new Map<number, string>();
  for (const some of batches(gone, [BATCH], () => [1])) {
    const units = some.filter((offer) => keys.unitOf(offer) !== undefined);
    const { answers } = await gateway.read([
      list(keys.done(seat)),
      ...units.map((offer) => get(keys.unitOf(offer)!)),
    ]);
    for (const [number, taker] of takersIn(answers[0]!.entries)) takers.set(number, taker);
    for (const [n, { number }] of units.entries()) {
      const [entry] = answers[n + 1]!.entries;
      if (entry !== undefined) takers.set(number, readOwned(entry.value).seat);
    }
  }
  return takers;
}

/** What is known of who has taken what. */
export function takersIn(done: readonly Entry[]): Map<number, string> {
  const all = done.map((entry) => readDone(entry));
  return new Map(
    all.flatMap(({ claimant, numbers }) => numbers.map((number) => [number, claimant] as const)),
  );
}
