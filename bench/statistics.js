// What the benchmarks do with their numbers.

/** The value that `percent` of the values do not exceed; NaN of none. */
export function percentile(values, percent) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? NaN;
}

/** Of objects of numbers: the median of each figure by itself. */
export function median(objects) {
  if (typeof objects[0] === "number") return percentile(objects, 50);
  const keys = Object.keys(objects[0]);
  return Object.fromEntries(keys.map((key) => [key, median(objects.map((one) => one[key]))]));
}

/** In one line, beside each other: the first cell to the left, the others to the right. */
export function row([first, ...rest], widths) {
  return (
    first.padEnd(widths[0]) + rest.map((cell, n) => cell.padStart(widths[n + 1] ?? widths.at(-1))).join("")
  );
}

/** A line that the next one replaces; only for people. */
export function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
