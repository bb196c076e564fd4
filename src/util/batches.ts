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
  let left: readonly number[] = [];
  for (const item of items) {
    const costs = costsOf(item);
    if (all.length === 0 || costs.some((cost, n) => cost > left[n]!)) {
      all.push([]);
      left = limits;
    }
    left = left.map((room, n) => room - costs[n]!);
    all.at(-1)!.push(item);
  }
  return all;
}
