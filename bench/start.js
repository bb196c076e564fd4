// How long it takes until a new process accepts: a program without handover, the same program with handover, and an
// upgrade of the latter, without and with a staged successor. Each is measured from its trigger (spawn, or SIGHUP), for an
// empty program and for one that imports much. And how long the command takes: `handover status`, against `node -e 0`.
// All alternate within one run, as the speed of a machine drifts; which one is first changes from round to round.
//
//   npm run bench:start [-- --runs 40] [--json]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { atEnd, endAll, fail } from "./at-end.js";
import { FLAG, readOptions, wholeNumber } from "./options.js";
import { startService } from "./service-harness.js";
import { bold, inWords, machine, percentile, progress, row } from "./statistics.js";

const { runs, json } = readOptions(import.meta.url, { runs: wholeNumber(40), json: FLAG });

const HANDOVER = fileURLToPath(new URL("../bin/handover.js", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "handover-bench-"));
const control = join(directory, "control.sock");
atEnd(() => rmSync(directory, { recursive: true, force: true }));

/** A service that is upgraded again and again. */
class RunningService {
  #settings;
  #service;
  #pid;

  constructor(settings) {
    this.#settings = settings;
  }

  /** Returns when the old process has exited, so that it does not disturb the next measurement. */
  async timeUpgrade() {
    await this.#start();
    const began = performance.now();
    process.kill(this.#pid, "SIGHUP");
    ({ pid: this.#pid } = await this.#service.next("accepts"));
    const took = performance.now() - began;
    await this.#service.next("alone");
    return took;
  }

  async timeStagedUpgrade() {
    await this.#start();
    process.kill(this.#pid, "SIGUSR2");
    await this.#service.next("staged");
    return this.timeUpgrade();
  }

  async #start() {
    if (this.#service !== undefined) return;
    this.#service = startService("upgradable-server.js", this.#settings);
    ({ pid: this.#pid } = await this.#service.next("accepts"));
  }
}

const groups = {
  empty: programGroup("an empty program", { CONTROL: control }),
  heavy: programGroup("a program that imports express, pg and pino", { HEAVY: "1" }),
  command: {
    title: "the command",
    ways: {
      node: way("node -e 0", () => timeCommand("-e", "0")),
      status: way("handover status", () => timeCommand(HANDOVER, "status", "--control", control)),
    },
  },
};

try {
  await measureAll();
  report();
} finally {
  await endAll();
}

function way(name, measure) {
  return { name, measure, times: [] };
}

function programGroup(title, settings) {
  const running = new RunningService(settings);
  return {
    title,
    ways: {
      bare: way("bare start", () => timeStart("bare-server.js", settings)),
      handover: way("start with handover", () =>
        timeStart("upgradable-server.js", { ...settings, CONTROL: "" }),
      ),
      upgrade: way("upgrade", () => running.timeUpgrade()),
      staged: way("staged upgrade", () => running.timeStagedUpgrade()),
    },
  };
}

/** The first round is not counted: it fills the caches. */
async function measureAll() {
  const order = Object.values(groups).flatMap(({ ways }) => Object.values(ways));
  for (let round = 0; round <= runs; round++) {
    progress(`run ${round} of ${runs}`);
    for (const one of order) {
      const took = await one.measure();
      if (round > 0) one.times.push(took);
    }
    // The command asks a service that the upgrade has started.
    if (round > 0) order.push(order.shift());
  }
  progress("");
}

async function timeStart(program, settings) {
  const began = performance.now();
  const started = startService(program, settings);
  await started.next("accepts");
  const took = performance.now() - began;
  started.end();
  await started.exited;
  return took;
}

async function timeCommand(...words) {
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
  const began = performance.now();
  const child = spawn(process.execPath, words, { env, stdio: ["ignore", "ignore", "inherit"] });
  const [code] = await once(child, "exit");
  if (code !== 0) fail(`${words.join(" ")} exited with code ${code}`);
  return performance.now() - began;
}

function report() {
  const summaries = Object.entries(groups).map(([key, { ways }]) => [key, summarize(ways)]);
  if (json) return console.log(JSON.stringify({ runs, ...machine(), ...Object.fromEntries(summaries) }));
  const widths = [22, 10, 18, 16];
  console.log(`ms; ${runs} runs, ${inWords(machine())}`);
  for (const [key, summary] of summaries) {
    const [first] = Object.values(groups[key].ways);
    console.log(`\n${bold(row([groups[key].title], [0]))}`);
    console.log(row(["", "median", "min – max", `to ${first.name}`], widths));
    for (const [name, { median, min, max, ratio }] of Object.entries(summary)) {
      const range = `${min.toFixed(1)} – ${max.toFixed(1)}`;
      console.log(row([groups[key].ways[name].name, median.toFixed(1), range, ratio.toFixed(2)], widths));
    }
  }
  return undefined;
}

/** The ratios are those of the medians to the median of the first one. */
function summarize(ways) {
  const [{ times: first }] = Object.values(ways);
  return Object.fromEntries(
    Object.entries(ways).map(([key, { times }]) => {
      const median = percentile(times, 50);
      const ratio = median / percentile(first, 50);
      return [key, { median, min: percentile(times, 0), max: percentile(times, 100), ratio }];
    }),
  );
}
