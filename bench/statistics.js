// How the benchmarks summarise and print their figures.
import { styleText } from "node:util";

/** The smallest value that `percent` of the values do not exceed; NaN without values. */
export function percentile(values, percent) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? NaN;
}

/** The median of each figure in objects of numbers. */
export function median(objects) {
  if (typeof objects[0] === "number") return percentile(objects, 50);
  const keys = Object.keys(objects[0]);
  return Object.fromEntries(keys.map((key) => [key, median(objects.map((one) => one[key]))]));
}

/** One line of a table: the first cell is aligned to the left, the others to the right. */
export function row([first, ...rest], widths) {
  return (
    first.padEnd(widths[0]) + rest.map((cell, n) => cell.padStart(widths[n + 1] ?? widths.at(-1))).join("")
  );
}

/** Bold on a terminal, unless NO_COLOR is set. */
export function bold(text) {
  const { stdout, env } = process;
  return stdout.isTTY && !env.NO_COLOR && stdout.hasColors() ? styleText("bold", text) : text;
}

/** Shows a line that the next one replaces; only on a terminal. */
export function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
