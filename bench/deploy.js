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
import { atEnd, endAll } from "./at-end.js";
import { ENGINES } from "./global-engines.js";
import { FLAG, readOptions, someOf, wholeNumber } from "./options.js";
import { bold, orDash, percentile, progress } from "./statistics.js";

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
try {
  const results = {};
  const { endpoint } = await ENGINES.postgres();
  for (const order of new Set(orders)) results[order] = await deploy(endpoint, order);
  progress("");
  if (json) console.log(JSON.stringify({ hosts, rooms, ...results }, undefined, 2));
  else for (const [order, result] of Object.entries(results)) print(order, result);
} finally {
  await endAll();
}

async function deploy(endpoint, order) {
  const bound = (n) => Math.round((rooms * n) / hosts);
  const old = [];
  const start = async (release, first, last) => startHost([endpoint, order, release, first, last]);
  while (old.length < hosts) old.push(await start("1", bound(old.length), bound(old.length + 1)));
  const from = performance.now();
  const all = [];
  const replacing = [];
  for (const [n, host] of old.entries()) {
    progress(`${order}: host ${n + 1} of ${hosts}`);
    if (order === "start-first") replacing.push(await start("2", 0, 0));
    all.push(...(await host.stop()));
    if (order === "stop-first") replacing.push(await start("2", 0, 0));
  }
  const ms = performance.now() - from;
  for (const host of replacing) all.push(...(await host.report()));
  for (const host of replacing) host.kill();
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

/** One host, when it is ready. The last two arguments are the room from which on it has rooms, and the one up to which. */
async function startHost(args) {
  const script = fileURLToPath(new URL("deploy-host.js", import.meta.url));
  const child = spawn(process.execPath, [script, ...args.map(String)], {
    // In a process group of its own, as a service is: else it would warn that this process waits for it.
    detached: true,
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const kill = atEnd(() => child.kill("SIGKILL"));
  const exited = once(child, "exit");
  const [{ isReady }] = await Promise.race([once(child, "message"), exited.then(() => [{}])]);
  if (isReady !== true) throw new Error(`a host did not start: ${args.join(" ")}`);
  const report = async () => {
    const [{ runs }] = await once(child, "message");
    return runs;
  };
  return {
    kill,
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
  console.log(
    `  gap of a move: p50 ${orDash(gap.p50)} ms, p99 ${orDash(gap.p99)} ms, longest ${orDash(gap.max)} ms`,
  );
}
