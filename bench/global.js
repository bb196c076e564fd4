// How fast units move between hosts, from one that stops to two others: beside the rate of single durable updates of the same
// engine, which writes each one to the disk before it answers. The gap of a unit is the time in which it runs nowhere.
//
//   npm run bench:global [-- --engine postgres,etcd] [--units 100000] [--json]
//
// --engine names those over which the units move; without it PostgreSQL. --units are of 1 KiB each. --json prints an object with
// the figures of each engine.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { atEnd, endAll } from "./at-end.js";
import { ENGINES } from "./global-engines.js";
import { FLAG, readOptions, someOf, wholeNumber } from "./options.js";
import { bold, orDash, percentile, progress } from "./statistics.js";

const {
  engine: names,
  units: count,
  json,
} = readOptions(import.meta.url, {
  engine: someOf(Object.keys(ENGINES), ["postgres"]),
  units: wholeNumber(100_000),
  json: FLAG,
});
const results = {};
try {
  for (const name of new Set(names)) results[name] = await measure(name);
} finally {
  await endAll();
}
progress("");
if (json) console.log(JSON.stringify({ units: count, ...results }, undefined, 2));
else for (const result of Object.values(results)) print(result);

async function measure(which) {
  progress(`${which}: starts`);
  const engine = await ENGINES[which]();
  progress(`${which}: single durable updates`);
  const singles = await rateOf(engine.update);
  const start = async (role) => startHost(which, engine.endpoint, role);
  const takers = [await start("taker"), await start("taker")];
  const owner = await start("owner");
  const reports = takers.map(async (taker) => taker.next("gaps"));
  const reporting = owner.next("report");
  owner.child.kill("SIGTERM");
  const { moved, ms } = await reporting;
  for (const { child } of takers) child.kill("SIGTERM");
  const gaps = (await Promise.all(reports)).flat();
  for (const host of [owner, ...takers]) host.kill();
  await engine.stop();
  return {
    engine: engine.name,
    singles,
    moved,
    begun: gaps.length,
    ms,
    rate: Math.round((moved / ms) * 1_000),
    gap: { p50: Math.round(percentile(gaps, 50)), p99: Math.round(percentile(gaps, 99)) },
  };
}

/** Updates a second, one after the other, for two seconds. */
async function rateOf(update) {
  const from = performance.now();
  let updates = 0;
  for (; performance.now() - from < 2_000; updates++) await update();
  return Math.round((updates / (performance.now() - from)) * 1_000);
}

/** One host, when it is ready. */
async function startHost(engine, endpoint, role) {
  const script = fileURLToPath(new URL("global-host.js", import.meta.url));
  const child = spawn(process.execPath, [script, engine, endpoint, "bench", role, String(count)], {
    // In a process group of its own, as a service is: else it would warn that this process waits for it.
    detached: true,
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const kill = atEnd(() => child.kill("SIGKILL"));
  child.on("message", ({ begun }) => {
    if (begun !== undefined) progressOf(engine, role, begun);
  });
  const next = async (key) =>
    new Promise((resolve, reject) => {
      child.on("message", (message) => message[key] !== undefined && resolve(message[key]));
      child.once("exit", (code) => reject(new Error(`the ${role} has exited with ${code}`)));
    });
  await next("isReady");
  return { child, kill, next };
}

function progressOf(engine, role, more) {
  const key = `${engine} ${role}`;
  const begun = (progressOf[key] = (progressOf[key] ?? 0) + more);
  progress(`${engine}: ${begun} of ${count} units ${role === "owner" ? "started" : "moved"}`);
}

function print({ engine, singles, moved, begun, ms, rate, gap }) {
  console.log(bold(engine));
  console.log(`  single durable updates: ${singles} a second`);
  console.log(
    `  ${moved} of ${count} units of 1 KiB moved in ${(ms / 1_000).toFixed(1)} s, ${rate} a second; ${begun} began elsewhere`,
  );
  console.log(`  gap of a unit: p50 ${orDash(gap.p50)} ms, p99 ${orDash(gap.p99)} ms`);
}
