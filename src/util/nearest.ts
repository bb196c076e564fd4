/** The known name that a misspelt one most likely means; undefined if none is near. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const normal = normalize(name);
  const distances = known.map((one) => [one, distance(normal, normalize(one))] as const);
  const [best] = distances.toSorted(([, a], [, b]) => a - b);
  if (best === undefined) return undefined;
  return best[1] <= Math.max(1, Math.floor(normal.length / 3)) ? best[0] : undefined;
}

/** `max_memory`, `max-memory` and `maxMemory` are one name. */
function normalize(name: string): string {
  return name.toLowerCase().replaceAll(/[-_]/g, "");
}

/** The letters that have to be inserted, removed, replaced or swapped with their neighbor. */
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, n) => n)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwapped ? rows[i - 2]![j - 2]! + 1 : Infinity;
      row.push(Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, rows[i - 1]![j - 1]! + cost, swapped));
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
