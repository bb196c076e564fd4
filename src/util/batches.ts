/**
 * Distributes items, in their order, to as few batches as possible. An item that costs more than `limits` is alone in a
 * batch.
 *
 * @param limits of one batch, for each of several costs
 */
export function batches<T>(
  items: readonly T[],
  limits: readonly number[],
  costsOf: (item: T) => readonly number[],
): T[][] {
  const all: T[][] = [];
  let batch: T[] | undefined;
  let left: number[] = [];
  for (const item of items) {
    const costs = costsOf(item);
    if (batch === undefined || !fits(costs, left)) {
      all.push((batch = []));
      left = [...limits];
    }
    for (let n = 0; n < left.length; n++) left[n]! -= costs[n]!;
    batch.push(item);
  }
  return all;
}

function fits(costs: readonly number[], room: readonly number[]): boolean {
  for (let n = 0; n < room.length; n++) if (costs[n]! > room[n]!) return false;
  return true;
}
