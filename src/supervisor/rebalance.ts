/** Connections that move from the busiest worker to the idlest one. */
interface RebalanceMove {
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

/**
 * Whether connections are to move between workers that serve. The busiest one has more than a quarter over its share, and some
 * more than the idlest; as many move as bring neither of the two past the mean.
 *
 * @param connections of each worker, by index
 * @param most that move at once
 */
export function planRebalance(
  connections: ReadonlyMap<number, number>,
  most: number,
): RebalanceMove | undefined {
  const all = [...connections].toSorted(([, a], [, b]) => b - a);
  const [busiest, idlest] = [all[0], all.at(-1)];
  if (busiest === undefined || idlest === undefined) return undefined;
  const mean = all.reduce((sum, [, count]) => sum + count, 0) / all.length;
  if (busiest[1] <= mean * UNEVEN || busiest[1] - idlest[1] < LEAST_DIFFERENCE) return undefined;
  const needed = Math.max(1, Math.floor(Math.min(busiest[1] - mean, mean - idlest[1])));
  return { from: busiest[0], to: idlest[0], count: Math.min(needed, most) };
}

/** A random spread of a few hundred connections over two workers is more even than this. */
const UNEVEN = 1.25;

/** Fewer connections are not worth a move. */
const LEAST_DIFFERENCE = 16;
