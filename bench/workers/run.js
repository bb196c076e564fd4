// Several workers under handover run, beside node:cluster and PM2 with as many workers: their speed, how evenly connections are
// spread, what clients see of upgrades, of killed workers and of a changing number of workers; and the cost of the supervisor.
//
//   npm run bench:workers [-- --only handover,cluster,pm2] [--workers 2,4] [--rounds 15] [--upgrades 20] [--kills 120]
//     [--rare-kills 8] [--scales 6] [--rest 60] [--growth 200] [--json] [--check]
//
// It takes half an hour. 0 leaves a part out. PM2 is installed into a cache directory when it is first needed, and left out if
// that fails. --check fails if handover misses a goal by more than a margin for the noise of the machine.
import { loadavg } from "node:os";
import { endAll } from "../at-end.js";
import { Missing } from "../peers/peers.js";
import { FLAG, readOptions, someOf, wholeNumber, wholeNumbers } from "../options.js";
import { bold, inWords, machine, median, percentile, progress, row } from "../statistics.js";
import {
  measureBalance,
  measureKills,
  measureScaling,
  measureSpeed,
  measureSupervisor,
  measureUpgrades,
} from "./measures.js";
import { NAMES, startService } from "./services.js";

const values = readOptions(import.meta.url, {
  only: someOf(NAMES),
  workers: wholeNumbers([2, 4]),
  rounds: wholeNumber(15, 0),
  connections: wholeNumber(1_000, 0),
  upgrades: wholeNumber(20, 0),
  kills: wholeNumber(120, 0),
  "rare-kills": wholeNumber(8, 0),
  scales: wholeNumber(6, 0),
  rest: wholeNumber(60, 0),
  growth: wholeNumber(200, 0),
  json: FLAG,
  check: FLAG,
});
const { only: names, workers: counts, rounds, connections, upgrades, kills } = values;
const { "rare-kills": rareKills, scales, rest, growth } = values;

/** ms between two kills. */
const EVERY_KILL = 1_000;
/** ms between two kills of workers that have the options of a service. */
const EVERY_RARE_KILL = 15_000;
/** So that no worker is given up, however often it is killed. */
const NEVER_FAILED = ["--backoff", "0", "--restarts", "100000"];

const results = {};
const missing = new Set();
try {
  for (const count of counts) await measureWith(count);
  if (kills > 0) await each("kills", 4, NEVER_FAILED, (one) => measureKills(one, kills, EVERY_KILL));
  if (rareKills > 0 && names.includes("handover")) {
    const service = await startService("handover", 4);
    add("handover", "rareKills", await measureKills(service, rareKills, EVERY_RARE_KILL));
    await service.stop();
  }
  if (scales > 0) await measureScales();
  if (rest > 0 && names.includes("handover")) results.supervisor = await measureSupervisor({ rest, growth });
} finally {
  await endAll();
}
progress("");
const goals = judge();
if (values.json) console.log(JSON.stringify({ ...machine(), load: load(), results, goals }));
else print();
if (values.check && goals.some(({ isReached }) => !isReached)) process.exitCode = 1;

/** All that is measured with two and with four workers. */
async function measureWith(count) {
  const services = [];
  for (const name of names)
    await unlessMissing(name, async () => services.push(await startService(name, count)));
  const speeds = rounds > 0 ? await measureSpeed(services, rounds) : new Map();
  for (const service of services) {
    const speed = speeds.get(service);
    const balance = connections > 0 ? await measureBalance(service, connections) : undefined;
    add(service.name, `of ${count}`, { ...(speed && { speed: median(speed) }), ...(balance && { balance }) });
  }
  if (rounds > 0) addRatios(count, services, speeds);
  if (upgrades > 0 && count === counts[0]) {
    for (const one of services) add(one.name, "upgrades", await measureUpgrades(one, upgrades));
  }
  for (const service of services) await service.stop();
}

/** How many times as fast as node:cluster handover was, by rounds. */
function addRatios(count, services, speeds) {
  const [own, other] = ["handover", "cluster"].map((name) => services.find((one) => one.name === name));
  if (own === undefined || other === undefined) return;
  const ratio = (what) =>
    percentile(
      speeds.get(own).map((round, n) => round[what].perSecond / speeds.get(other)[n][what].perSecond),
      50,
    );
  results.handover[`of ${count}`].ratio = { requests: ratio("requests"), connections: ratio("connections") };
}

async function each(what, count, options, measure) {
  for (const name of names) {
    await unlessMissing(name, async () => {
      const service = await startService(name, count, options);
      add(name, what, await measure(service));
      await service.stop();
    });
  }
}

async function measureScales() {
  if (!names.includes("handover")) return;
  const service = await startService("handover", 4);
  const turns = Array.from({ length: scales }, () => [2, 4]).flat();
  add("handover", "scales", await measureScaling(service, turns));
  await service.stop();
}

async function unlessMissing(name, work) {
  if (missing.has(name)) return;
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    missing.add(name);
    progress("");
    console.error(`${name} was left out: ${error.message}`);
  }
}

function add(name, part, result) {
  results[name] ??= {};
  results[name][part] = result;
}

/** Each goal that was measured: the value, the most or the least that is wanted, and the margin of --check. */
function judge() {
  const { handover = {}, supervisor } = results;
  const all = [];
  const most = (name, value, goal, margin = 0) => {
    if (value !== undefined) all.push({ name, value, goal, isReached: value <= goal + margin });
  };
  const least = (name, value, goal, margin) => {
    if (value !== undefined) all.push({ name, value, goal, isReached: value >= goal - margin });
  };
  for (const count of counts) {
    const { ratio, balance } = handover[`of ${count}`] ?? {};
    least(`connections/s of ${count} workers, times node:cluster`, ratio?.connections, 1.5, 0.4);
    least(`requests/s of ${count} workers, times node:cluster`, ratio?.requests, 1, 0.15);
    most(`short connections of the busiest of ${count}, times its share`, balance?.short, 1.25, 0.05);
    most(`long connections of the busiest of ${count}, times its share`, balance?.long, 1.25, 0.05);
  }
  most("requests that failed in upgrades", handover.upgrades?.failed, 0);
  most("connections that were closed in upgrades", handover.upgrades?.closed, 0);
  most("connections refused while workers were killed", handover.kills?.refused, 0);
  most("longest wait of a new connection then, ms", handover.kills?.longest, 250, 500);
  most(
    "connections refused while workers with the default options were killed",
    handover.rareKills?.refused,
    0,
  );
  most("longest wait of a new connection then, ms", handover.rareKills?.longest, 250, 500);
  most("connections reset while the number of workers changed", handover.scales?.reset, 0);
  most("requests that failed meanwhile", handover.scales?.failed, 0);
  if (supervisor === undefined) return all;
  most("memory of the supervisor over a bare process, MiB", supervisor.memory - supervisor.bare, 6, 1);
  most("CPU of the supervisor at rest, %", supervisor.percent, 1, 1);
  most("MiB that it grew by upgrades", supervisor.grownByUpgrades, 0, 3);
  most("MiB that it grew by crashes", supervisor.grownByCrashes, 0, 3);
  return all;
}

function load() {
  return Math.round(loadavg()[1]);
}

function print() {
  console.log(`${inWords(machine())}; a load of ${load()} in the last five minutes\n`);
  const widths = [12, 14, 12, 14, 12, 14, 14];
  const header = ["requests/s", "µs of CPU", "connections/s", "µs of CPU", "short: busiest", "long: busiest"];
  for (const count of counts) {
    console.log(bold(row([`${count} workers`, ...header], widths)));
    for (const name of names) {
      const { speed, balance } = results[name]?.[`of ${count}`] ?? {};
      const cells = [speed?.requests, speed?.connections].flatMap((one) => [
        format(one?.perSecond),
        format(one?.cpu),
      ]);
      console.log(row([name, ...cells, format(balance?.short, 2), format(balance?.long, 2)], widths));
    }
    console.log("");
  }
  for (const name of names) {
    for (const part of ["upgrades", "kills", "rareKills", "scales"]) {
      const result = results[name]?.[part];
      if (result !== undefined) console.log(`${name}, ${part}: ${JSON.stringify(result)}`);
    }
  }
  console.log(`\n${bold(row(["goal", "measured", "wanted", ""], [64, 12, 10, 10]))}`);
  for (const { name, value, goal, isReached } of goals) {
    const cells = [format(value, 2), String(goal), isReached ? "" : "missed"];
    console.log(row([name, ...cells], [64, 12, 10, 10]));
  }
}

function format(value, digits = 0) {
  if (value === undefined || Number.isNaN(value)) return "–";
  return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });
}
