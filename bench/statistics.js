// How the benchmarks summarise and print their figures.
import { availableParallelism } from "node:os";
import { styleText } from "node:util";

/** A figure, or a dash if nothing was measured. */
export function orDash(figure, format = String) {
  return Number.isNaN(figure) ? "–" : format(figure);
}

/** Figures in ms; one dash if none was measured. */
export function inMs(...figures) {
  const texts = figures.map((figure) => orDash(figure, (ms) => ms.toFixed(1)));
  return texts.every((text) => text === "–") ? "–" : texts.join(" / ");
}

/** How many values of a histogram are greater than `value`, by bisection: it tells the values of percentiles only. */
export function countAbove(histogram, value) {
  let [least, most] = [0, 100];
  while (most - least > 1e-6) {
    const middle = (least + most) / 2;
    if (histogram.percentile(middle) > value) most = middle;
    else least = middle;
  }
  // Depending on the version of Node the percentile of a value begins half a value earlier.
  return Math.max(0, Math.ceil((histogram.count * (100 - most)) / 100 - 0.25));
}

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

/** What the figures depend on. */
export function machine() {
  const date = new Date().toISOString().slice(0, 10);
  return { node: process.versions.node, cpus: availableParallelism(), date };
}

export function inWords({ node, cpus, date }) {
  return `Node ${node}, ${cpus} CPUs, ${date}`;
}

/**
 * Prints how two sides compare, and judges by the goals. With `check` a goal that is missed by more than its margin is the exit
 * code 1.
 *
 * @param figures by key: the `name`, the most or the least that the ratio of the second side to the first may be, and the margin
 * @param measured by key: for each round, the values of both sides
 * @param options.sides the names of both
 * @param options.settings of the run
 * @param options.title the settings in words
 */
export function reportRatios(figures, measured, { sides, settings, title, json, check }) {
  const summaries = Object.fromEntries(
    Object.entries(measured).map(([key, pairs]) => [key, ratioOf(pairs, figures[key], sides)]),
  );
  const missed = Object.keys(summaries).filter((key) => !summaries[key].isReached);
  if (check && missed.length > 0) process.exitCode = 1;
  if (json) return console.log(JSON.stringify({ ...settings, ...machine(), ...summaries }));
  const widths = [40, 10, 12, 20, 10];
  console.log(`${title}; ${inWords(machine())}\n`);
  console.log(bold(row(["medians", ...sides, "ratio (quartiles)", "goal"], widths)));
  for (const [key, summary] of Object.entries(summaries)) {
    const { name, most, least } = figures[key];
    const { ratio, quartiles } = summary;
    const spread = `${ratio.toFixed(3)} (${quartiles.map((one) => one.toFixed(2)).join("–")})`;
    const goal = most === undefined ? `≥ ${least}` : `≤ ${most}`;
    console.log(row([name, ...sides.map((side) => short(summary[side])), spread, goal], widths));
  }
  const verdict = missed.length === 0 ? "all goals are reached, within their margins" : "not reached: ";
  if (check) console.log(`\n${verdict}${missed.join(", ")}`);
  return undefined;
}

/** The ratio is the median of the ratios of the rounds. */
function ratioOf(pairs, { most = Infinity, least = 0, margin }, sides) {
  const ratios = pairs.map(([first, second]) => second / first);
  const [low, ratio, high] = [25, 50, 75].map((percent) => percentile(ratios, percent));
  const medians = sides.map((side, n) => [side, median(pairs.map((pair) => pair[n]))]);
  const isReached = ratio <= most + margin && ratio >= least - margin;
  return { ...Object.fromEntries(medians), ratio, quartiles: [low, high], isReached };
}

function short(value) {
  return value < 1_000 ? value.toFixed(2) : Math.round(value).toLocaleString("en");
}
