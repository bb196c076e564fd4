// Idle keep-alive connections that move in an upgrade: how many per second, the latency of requests during the move
// beside that before it, the longest block of each process's event loop and the number of those over 10 ms, the CPU time
// of both, and the memory and descriptors of the new process. Each connection has made one request before, so that the old process has a socket
// for it. In the last upgrade ("dormant") they have been silent since the upgrade before, and have no socket object.
// A move is over when the old process has none of the connections. That exits later: it looks four times a second whether
// probation is over. The blocks and the CPU time are those until it exits.
//
//   npm run bench:connections [-- --connections 10000] [--upgrades 5] [--silent] [--profile <directory>] [--json]
//
// --silent sends no requests during the moves: the CPU time is that of the moves alone.
// --profile writes a CPU profile of both processes, from shortly before the commit until the move is over. It slows
// them down: the figures of such a run do not count.
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { endAll, fail } from "./at-end.js";
import { Client, Load, requireDescriptors } from "./idle-clients.js";
import { FLAG, readOptions, TEXT, wholeNumber } from "./options.js";
import { startService } from "./service-harness.js";
import { inMs, median, percentile, progress, row } from "./statistics.js";

const {
  connections: count,
  upgrades,
  silent,
  profile,
  json,
} = readOptions(import.meta.url, {
  connections: wholeNumber(10_000),
  upgrades: wholeNumber(5),
  silent: FLAG,
  profile: TEXT,
  json: FLAG,
});
/** Connections per client address, which has less than 28,232 ports. */
const PER_ADDRESS = 5_000;
/** ms: a few hundred requests. */
const STEADY = 1_000;

requireDescriptors(count + 200);
const settings = profile === undefined ? {} : { PROFILES: profile };
const service = startService("connections-server.js", settings);
const clients = [];
try {
  await service.next("start");
  const { port } = await service.next("ready");
  await connectAll(port);
  const moves = [];
  for (let n = 1; n <= upgrades; n++) {
    progress(`upgrade ${n} of ${upgrades}`);
    moves.push(await measure());
    await askAll();
  }
  progress("dormant");
  await measure();
  const dormant = await measure();
  progress("");
  report(moves, dormant);
} finally {
  for (const client of clients) client.end();
  await endAll();
}

/** One upgrade under low load: one request per ms, on a random connection. */
async function measure() {
  const load = new Load(silent ? [] : clients);
  const old = service.pid;
  await sleep(STEADY);
  const before = footprint(old);
  process.kill(old, "SIGHUP");
  const { pid } = await service.next("start");
  const begin = footprint(pid);
  await service.next("ready");
  const { commit, at: end } = await service.next("moved");
  await load.stop();
  process.kill(pid, "SIGUSR2");
  const costs = [await service.next("cost"), await service.next("cost")];
  const after = footprint(pid);
  service.pid = pid;
  const during = load.samples.filter(({ sent }) => sent >= commit && sent <= end);
  return {
    ms: end - commit,
    perSecond: Math.round((count / (end - commit)) * 1_000),
    steady: latencies(load.samples.filter(({ sent }) => sent < commit - STEADY / 4)),
    gap: latencies(during),
    block: Object.fromEntries(costs.map(({ role, block }) => [role, block])),
    blocks: Object.fromEntries(costs.map(({ role, blocks }) => [role, blocks])),
    cpu: Object.fromEntries(costs.map(({ role, cpu }) => [role, cpu])),
    footprint: { old: before, begin, end: after },
  };
}

async function connectAll(port) {
  while (clients.length < count) {
    progress(`${clients.length} of ${count} connections`);
    const some = Array.from({ length: Math.min(100, count - clients.length) }, () => new Client(fail));
    const address = `127.0.0.${2 + Math.floor(clients.length / PER_ADDRESS)}`;
    await Promise.all(some.map((client) => client.open(port, address).then(() => client.ask())));
    clients.push(...some);
  }
}

async function askAll() {
  for (let n = 0; n < clients.length; n += 100)
    await Promise.all(clients.slice(n, n + 100).map((client) => client.ask()));
}

function footprint(pid) {
  const rss = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1];
  return { rss: Number(rss) / 1024, descriptors: readdirSync(`/proc/${pid}/fd`).length };
}

function latencies(samples) {
  const ms = samples.map((one) => one.ms);
  return { requests: ms.length, p50: percentile(ms, 50), p99: percentile(ms, 99), max: percentile(ms, 100) };
}

function report(moves, dormant) {
  const middle = median(moves);
  if (json) return console.log(JSON.stringify({ connections: count, median: middle, dormant, moves }));
  const widths = [9, 9, 13, 16, 16, 16, 13, 16, 10];
  console.log(`${count} idle keep-alive connections; ms\n`);
  console.log(
    row(
      ["", "move", "per second", "before", "gap", "longest block", "over 10 ms", "CPU", "requests"],
      widths,
    ),
  );
  console.log(
    row(["", "", "", "p50 / p99", "p50 / p99", "old / new", "old / new", "old / new", "in it"], widths),
  );
  const rows = [...moves.map((move, n) => [String(n + 1), move]), ["median", middle], ["dormant", dormant]];
  for (const [name, { ms, perSecond, steady, gap, block, blocks, cpu }] of rows) {
    const pairs = [
      [steady.p50, steady.p99],
      [gap.p50, gap.p99],
      [block.old, block.new],
      [cpu.old, cpu.new],
    ];
    const cells = pairs.map((pair) => inMs(...pair));
    cells.splice(3, 0, `${blocks.old} / ${blocks.new}`);
    cells.push(String(gap.requests));
    console.log(row([name, inMs(ms), perSecond.toLocaleString("en"), ...cells], widths));
  }
  const { begin, end } = moves[0].footprint;
  console.log(`\nthe first successor   ${inWords(begin)} before, ${inWords(end)} after the move`);
  console.log(`the last one          ${inWords(dormant.footprint.end)}`);
  return undefined;
}

function inWords({ rss, descriptors }) {
  return `${rss.toFixed(0)} MB and ${descriptors} descriptors`;
}
