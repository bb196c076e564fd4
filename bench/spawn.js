// How long the start of a process blocks the event loop of the process that starts it: as an upgrade starts its successor,
// and by child_process.spawn, which copies the page tables. The two alternate within one run, first with an empty heap and
// then with a large one. Either waits until the new process has run for a moment: on a busy machine that is most of it.
//
//   npm run bench:spawn [-- --runs 40] [--heap 1000] [--json]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { getHeapStatistics } from "node:v8";
import { startProgram } from "../dist/platform/child-process.js";
import { FLAG, readOptions, wholeNumber } from "./options.js";
import { bold, inWords, machine, percentile, progress, row } from "./statistics.js";

const { runs, heap, json } = readOptions(import.meta.url, {
  runs: wholeNumber(40),
  heap: wholeNumber(1_000),
  json: FLAG,
});

const room = Math.min(getHeapStatistics().heap_size_limit, process.availableMemory());
if (heap * 1e6 > room) {
  console.error(
    `a heap of ${heap} MB is more than there is room for, ${Math.floor(room / 1e6)} MB: a smaller --heap`,
  );
  process.exit(1);
}
const { env } = process;
const stdio = [0, 1, 2, 2];
const ways = {
  handover: () => startProgram({ file: "true", argv0: "true", args: [], cwd: "/", env }, stdio),
  node: () => spawn("true", [], { cwd: "/", env, stdio }),
};

/** Numbers in pages of V8, as a program's own objects are. */
const objects = [];
const results = [];
await measure();
while (process.memoryUsage().heapUsed < heap * 1e6) {
  objects.push(Array.from({ length: 1_000 }, () => objects.length));
}
await measure();
report();

/** The first round is not counted: it fills the caches. */
async function measure() {
  const times = { handover: [], node: [] };
  const order = Object.keys(ways);
  for (let round = 0; round <= runs; round++) {
    progress(`run ${round} of ${runs}`);
    for (const way of order) {
      const took = await time(ways[way]);
      if (round > 0) times[way].push(took);
    }
    order.reverse();
  }
  progress("");
  const { heapUsed, rss } = process.memoryUsage();
  results.push({
    heap: heapUsed / 1e6,
    rss: rss / 1e6,
    handover: summary(times.handover),
    node: summary(times.node),
  });
}

/** ms until the call returns. The process has exited before the next one is started. */
async function time(start) {
  const began = performance.now();
  const started = start();
  const took = performance.now() - began;
  const child = await started;
  await (child.exited ?? once(child, "exit"));
  return took;
}

function summary(times) {
  return { min: percentile(times, 0), median: percentile(times, 50), p95: percentile(times, 95) };
}

function report() {
  if (json) return console.log(JSON.stringify({ runs, ...machine(), results }));
  const widths = [12, 10, 22, 12, 12, 12];
  console.log(`ms in which a start blocks; ${runs} runs, ${inWords(machine())}\n`);
  console.log(bold(row(["heap", "resident", "", "min", "median", "p95"], widths)));
  for (const { heap: used, rss, ...measured } of results) {
    for (const [key, name] of [
      ["handover", "handover"],
      ["node", "child_process.spawn"],
    ]) {
      const { min, median, p95 } = measured[key];
      const memory = [used, rss].map((mb) => `${Math.round(mb)} MB`);
      console.log(row([...memory, name, ...[min, median, p95].map((ms) => ms.toFixed(2))], widths));
    }
  }
  return undefined;
}
