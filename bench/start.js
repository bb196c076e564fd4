// How long an upgrade takes, beside a bare start of the same program: from the trigger (spawn, or SIGHUP) until
// the new process says that it accepts. The two are measured in turn, as the speed of a machine drifts.
//
//   npm run bench:start [-- --runs 40] [--json]
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: { runs: { type: "string", default: "40" }, json: { type: "boolean" } },
});
const runs = Number(values.runs);
const program = fileURLToPath(new URL("server.js", import.meta.url));
// Extra certificates triple the time that Node takes to start.
const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;

const service = start();
let pid = Number(await service.line());
const bare = [];
const upgrade = [];
for (let run = 0; run < runs; run++) {
  bare.push(await timeBareStart());
  upgrade.push(await timeUpgrade());
  if (process.stderr.isTTY) process.stderr.write(`\r${run + 1} of ${runs} `);
}
process.kill(pid, "SIGTERM");
if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
report();

async function timeBareStart() {
  const began = performance.now();
  const alone = start();
  await alone.line();
  const took = performance.now() - began;
  alone.child.kill("SIGTERM");
  await alone.ended;
  return took;
}

async function timeUpgrade() {
  const began = performance.now();
  process.kill(pid, "SIGHUP");
  const successor = await service.line();
  const took = performance.now() - began;
  await gone(pid);
  pid = Number(successor);
  return took;
}

function start() {
  const child = spawn(process.execPath, [program], { env, stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = new Promise((resolve) => child.once("exit", resolve));
  return { child, ended, line: async () => (await lines.next()).value };
}

/** The old process must not run into the next measurement. */
async function gone(old) {
  for (;;) {
    try {
      process.kill(old, 0);
    } catch {
      return;
    }
    if (old === service.child.pid) await service.ended;
    else await new Promise((resolve) => setImmediate(resolve));
  }
}

function report() {
  const [a, b] = [summary(bare), summary(upgrade)];
  const result = { runs, bare: a, upgrade: b, difference: b.median - a.median, ratio: b.median / a.median };
  if (values.json) return console.log(JSON.stringify(result));
  console.log(`${"".padEnd(12)}${["min", "median", "max"].map((name) => name.padStart(12)).join("")}`);
  console.log(row("bare start", a));
  console.log(row("upgrade", b));
  console.log(
    `an upgrade takes ${result.difference.toFixed(1)} ms more: ${result.ratio.toFixed(2)} times a bare start`,
  );
  return undefined;
}

function row(name, { min, median, max }) {
  return `${name.padEnd(12)}${[min, median, max].map((ms) => `${ms.toFixed(1)} ms`.padStart(12)).join("")}`;
}

function summary(times) {
  const sorted = times.toSorted((x, y) => x - y);
  return { min: sorted[0], median: sorted[Math.floor(sorted.length / 2)], max: sorted.at(-1) };
}
