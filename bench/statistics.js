// What the benchmarks do with their numbers.

/** The value that `percent` of the values do not exceed; NaN of none. */
export function percentile(values, percent) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? NaN;
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
