// How long it takes until a new process accepts: a program without handover, the same program with handover, and an
// upgrade of the latter. Each is measured from its trigger (spawn, or SIGHUP). The three alternate within one run, as
// the speed of a machine drifts; which one is first changes from round to round.
//
//   npm run bench:start [-- --runs 40] [--json]
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { startService } from "./service-harness.js";
import { bold, percentile, progress, row } from "./statistics.js";

const { values } = parseArgs({
  options: { runs: { type: "string", default: "40" }, json: { type: "boolean" } },
});
const runs = Number(values.runs);
if (!Number.isInteger(runs) || runs < 1) {
  console.error(`--runs must be a whole number from 1 on, not ${values.runs}`);
  process.exit(2);
}

const ways = {
  bare: { name: "bare start", measure: () => timeStart("bare-server.js"), times: [] },
  handover: { name: "start with handover", measure: () => timeStart("upgradable-server.js"), times: [] },
  upgrade: { name: "upgrade", measure: timeUpgrade, times: [] },
};
let service;
let pid;
const services = new Set();

process.once("SIGINT", () => fail("interrupted"));
try {
  service = start("upgradable-server.js");
  ({ pid } = await service.next("accepts"));
  await measureAll();
  report();
} finally {
  endAll();
}

/** The first round is not counted: it fills the caches. */
async function measureAll() {
  const order = Object.values(ways);
  for (let round = 0; round <= runs; round++) {
    progress(`run ${round} of ${runs}`);
    for (const way of order) {
      const took = await way.measure();
      if (round > 0) way.times.push(took);
    }
    order.push(order.shift());
  }
  progress("");
}

async function timeStart(program) {
  const began = performance.now();
  const started = start(program);
  await started.next("accepts");
  const took = performance.now() - began;
  await end(started);
  return took;
}

/** Returns when the old process has exited, so that it does not disturb the next measurement. */
async function timeUpgrade() {
  const began = performance.now();
  process.kill(pid, "SIGHUP");
  ({ pid } = await service.next("accepts"));
  const took = performance.now() - began;
  await service.next("alone");
  return took;
}

function start(program) {
  const started = startService(program, {}, fail);
  services.add(started);
  return started;
}

async function end(started) {
  started.end();
  await started.exited;
  services.delete(started);
}

function endAll() {
  for (const one of services) one.end();
}

function fail(why) {
  console.error(`\nfailed: ${why}`);
  endAll();
  process.exit(1);
}

function report() {
  const summaries = Object.fromEntries(Object.entries(ways).map(([key, { times }]) => [key, summary(times)]));
  const { node } = process.versions;
  const machine = { node, cpus: availableParallelism(), date: new Date().toISOString().slice(0, 10) };
  if (values.json) return console.log(JSON.stringify({ runs, ...machine, ...summaries }));
  const widths = [22, 10, 18, 16];
  console.log(
    `ms until a new process accepts; ${runs} runs, Node ${node}, ${machine.cpus} CPUs, ${machine.date}\n`,
  );
  console.log(bold(row(["", "median", "min – max", "ratio to bare"], widths)));
  for (const [key, { name }] of Object.entries(ways)) {
    const { median, min, max, ratio } = summaries[key];
    console.log(
      row([name, median.toFixed(1), `${min.toFixed(1)} – ${max.toFixed(1)}`, ratio.toFixed(2)], widths),
    );
  }
  return undefined;
}

/** The ratio is that of the medians. */
function summary(times) {
  const median = percentile(times, 50);
  const ratio = median / percentile(ways.bare.times, 50);
  return { median, min: percentile(times, 0), max: percentile(times, 100), ratio };
}
