// A rolling deploy: the hosts of a service are replaced one by one, over PostgreSQL, while its rooms run. How long a room runs
// nowhere when it moves, how often it moves, and whether it ever ran twice; in both orders of start and stop.
//
//   npm run bench:deploy [-- --hosts 4] [--rooms 2000] [--order start-first,stop-first] [--json]
//
// --hosts are replaced, which have the --rooms of 1 KiB together. --order says whether each new host starts before an old one
// stops, or after it has stopped; without it both are measured. --json prints an object with the figures of each order.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { ENGINES } from "./global-engines.js";
import { FLAG, readOptions, someOf, wholeNumber } from "./options.js";
import { bold, percentile, progress } from "./statistics.js";

const {
  hosts,
  rooms,
  order: orders,
  json,
} = readOptions(import.meta.url, {
  hosts: wholeNumber(4),
  rooms: wholeNumber(2_000),
  order: someOf(["start-first", "stop-first"]),
  json: FLAG,
});
const children = new Set();
const killAll = () => children.forEach((child) => child.kill("SIGKILL"));
const engine = await ENGINES.postgres();

process.once("SIGINT", () => {
  killAll();
  void engine.stop().finally(() => process.exit(130));
});
try {
  const results = {};
  for (const order of new Set(orders)) results[order] = await deploy(order);
  progress("");
  if (json) console.log(JSON.stringify({ hosts, rooms, ...results }, undefined, 2));
  else for (const [order, result] of Object.entries(results)) print(order, result);
} finally {
  killAll();
  await engine.stop();
}

async function deploy(order) {
  const bound = (n) => Math.round((rooms * n) / hosts);
  const old = [];
  while (old.length < hosts) old.push(await startHost(order, "1", bound(old.length), bound(old.length + 1)));
  const from = performance.now();
  const all = [];
  const replacing = [];
  for (const [n, host] of old.entries()) {
    progress(`${order}: host ${n + 1} of ${hosts}`);
    if (order === "start-first") replacing.push(await startHost(order, "2", 0, 0));
    all.push(...(await host.stop()));
    if (order === "stop-first") replacing.push(await startHost(order, "2", 0, 0));
  }
  const ms = performance.now() - from;
  for (const host of replacing) all.push(...(await host.report()));
  killAll();
  return { ms: Math.round(ms), ...judge(all.filter(({ id }) => /^\d+$/.test(id))) };
}

/** Of all runs of all rooms. */
function judge(runs) {
  const byRoom = new Map();
  for (const run of runs) byRoom.set(run.id, [...(byRoom.get(run.id) ?? []), run]);
  const gaps = [];
  let [twice, lost] = [0, rooms - byRoom.size];
  for (const some of byRoom.values()) {
    const sorted = some.toSorted((a, b) => a.from - b.from);
    for (const [n, { from }] of sorted.entries()) {
      if (n === 0) continue;
      const end = sorted[n - 1].to ?? Infinity;
      if (end > from) twice++;
      else gaps.push(from - end);
    }
    if (sorted.at(-1).to !== null) lost++;
  }
  const at = (part) => Math.round(percentile(gaps, part));
  const moves = (runs.length - byRoom.size) / byRoom.size;
  return { moves, twice, lost, gap: { p50: at(50), p99: at(99), max: at(100) } };
}

/** One host that has the rooms from `first` on, up to `last`; when it is ready. */
async function startHost(order, release, first, last) {
  const script = fileURLToPath(new URL("deploy-host.js", import.meta.url));
  const args = [engine.endpoint, order, release, String(first), String(last)];
  const child = spawn(process.execPath, [script, ...args], {
    // In a process group of its own, as a service is: else it would warn that this process waits for it.
    detached: true,
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  children.add(child);
  const exited = once(child, "exit").then(() => children.delete(child));
  const [{ isReady }] = await Promise.race([once(child, "message"), exited.then(() => [{}])]);
  if (isReady !== true) throw new Error(`a host of release ${release} did not start`);
  const report = async () => {
    const [{ runs }] = await once(child, "message");
    return runs;
  };
  return {
    report: async () => {
      child.send("report");
      return report();
    },
    stop: async () => {
      const reporting = report();
      child.kill("SIGTERM");
      const runs = await reporting;
      await exited;
      return runs;
    },
  };
}

function print(order, { ms, moves, twice, lost, gap }) {
  console.log(bold(order));
  console.log(`  ${hosts} hosts with ${rooms} rooms were replaced in ${(ms / 1_000).toFixed(1)} s`);
  console.log(
    `  moves of a room: ${moves.toFixed(2)}; rooms that ran twice: ${twice}, that run no longer: ${lost}`,
  );
  console.log(`  gap of a move: p50 ${gap.p50} ms, p99 ${gap.p99} ms, longest ${gap.max} ms`);
}
