// State that moves in an upgrade. For many units: the gap in which a unit runs nowhere, from the abort of its signal
// in the old process until it starts in the new one. For one large slot: the time beside a copy of the same bytes
// between two processes without handover. For both: the longest block of each event loop, and the peak memory.
//
//   npm run bench:state [-- --units 100000] [--unit-size 1024] [--size 1073741824] [--runs 5] [--profile <directory>]
//     [--json]
//
// --profile writes a CPU profile of both processes, from shortly before the commit until the move is over. It slows
// them down: the figures of such a run do not count.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { atEnd, endAll, fail } from "./at-end.js";
import { FLAG, readOptions, TEXT, wholeNumber } from "./options.js";
import { startService } from "./service-harness.js";
import { inMs, median, percentile, progress, row } from "./statistics.js";

const values = readOptions(import.meta.url, {
  units: wholeNumber(100_000, 0),
  "unit-size": wholeNumber(1_024),
  size: wholeNumber(1024 ** 3, 0),
  runs: wholeNumber(5),
  profile: TEXT,
  json: FLAG,
});
const { units: count, runs } = values;
const profile = values.profile === undefined ? {} : { PROFILES: values.profile };
const directory = mkdtempSync(join(tmpdir(), "handover-bench-"));
atEnd(() => rmSync(directory, { recursive: true, force: true }));

try {
  const units = count > 0 ? await repeat(`${count} units`, moveUnits) : [];
  const slots = values.size > 0 ? await repeat("one slot", compareSlot) : [];
  progress("");
  report(units, slots);
} finally {
  await endAll();
}

async function repeat(name, measure) {
  const results = [];
  while (results.length < runs) {
    progress(`${name}, run ${results.length + 1} of ${runs}`);
    results.push(await measure());
  }
  return results;
}

async function moveUnits() {
  const service = begin("state-server.js", { KIND: "units", COUNT: count, SIZE: values["unit-size"] });
  const { commit, costs } = await upgrade(service);
  const { moved, failures } = await service.next("moved");
  if (moved !== count) fail(`${moved} of ${count} units have moved: ${JSON.stringify(failures)}`);
  const [ended, begun] = ["old", "new"].map((role) => timesOf(role));
  const gaps = begun.map((at, n) => at - ended[n]);
  if (gaps.some((gap) => !(gap > 0))) fail("a unit has run twice");
  const ms = begun.reduce((last, at) => Math.max(last, at)) - commit;
  service.end();
  return {
    ms,
    perSecond: Math.round((count / ms) * 1_000),
    gap: { p50: percentile(gaps, 50), p99: percentile(gaps, 99), max: percentile(gaps, 100) },
    ...costs,
  };
}

/** Alternates, because the speed of a machine drifts. */
async function compareSlot() {
  return { ...(await moveSlot()), socket: await copy("socket"), file: await copy("file") };
}

async function moveSlot() {
  await preallocate();
  const service = begin("state-server.js", { KIND: "slot", COUNT: 0, SIZE: values.size });
  const { costs } = await upgrade(service);
  const { at: from } = await service.next("offered");
  const { at: to, size } = await service.next("taken");
  if (size !== values.size) fail(`${size} bytes of ${values.size} have arrived`);
  service.end();
  return { ms: to - from, ...costs };
}

/** Resolves when both processes have reported their cost. */
async function upgrade(service) {
  await service.next("ready");
  process.kill(service.pid, "SIGHUP");
  const { at: commit } = await service.next("commit");
  const costReports = [await service.next("cost"), await service.next("cost")];
  const of = (figure) => Object.fromEntries(costReports.map((cost) => [cost.role, cost[figure]]));
  return { commit, costs: { block: of("block"), cpu: of("cpu"), rss: of("rss") } };
}

async function copy(way) {
  await preallocate();
  const settings = { WAY: way, SIZE: values.size };
  const reader = begin("raw-copy.js", { END: "reader", ...settings });
  await reader.next("listening");
  const writer = begin("raw-copy.js", { END: "writer", ...settings });
  const [from, to] = await Promise.all([writer.next("begin"), reader.next("end")]);
  writer.end();
  reader.end();
  rmSync(join(directory, `${way}.sock`), { force: true });
  return { ms: to.at - from.at };
}

/** As much as a run needs, and a little more: the bytes, the file and the copy that arrives. */
async function preallocate() {
  const preallocating = begin("preallocate.js", { SIZE: 4 * values.size });
  await preallocating.next("touched");
  preallocating.end();
}

function timesOf(role) {
  const bytes = readFileSync(join(directory, role));
  return [...new Float64Array(bytes.buffer, bytes.byteOffset, count)];
}

function begin(program, settings) {
  return startService(program, { ...settings, ...profile, DIRECTORY: directory });
}

function report(units, slots) {
  const result = { runs, count, unitSize: values["unit-size"], size: values.size };
  if (values.json) {
    const medians = { units: units.length > 0 && median(units), slot: slots.length > 0 && median(slots) };
    return console.log(JSON.stringify({ ...result, median: medians, units, slots }));
  }
  if (units.length > 0) printUnits(units);
  if (slots.length > 0) printSlots(slots);
  return undefined;
}

function printUnits(units) {
  const widths = [9, 9, 13, 22, 16, 16, 16];
  console.log(`${count} units of ${values["unit-size"]} bytes; ms, MB\n`);
  console.log(row(["", "move", "per second", "gap", "longest block", "CPU", "most memory"], widths));
  console.log(row(["", "", "", "p50 / p99 / max", "old / new", "old / new", "old / new"], widths));
  for (const [name, { ms, perSecond, gap, block, cpu, rss }] of named(units)) {
    const cells = [inMs(gap.p50, gap.p99, gap.max), inMs(block.old, block.new), inMs(cpu.old, cpu.new)];
    const memory = `${rss.old.toFixed(0)} / ${rss.new.toFixed(0)}`;
    console.log(row([name, inMs(ms), perSecond.toLocaleString("en"), ...cells, memory], widths));
  }
}

function printSlots(slots) {
  const widths = [9, 9, 9, 16, 16, 16, 22, 22, 8];
  const { size } = values;
  const speed = ({ ms }) => Math.round(size / 1e3 / ms);
  console.log(`\none slot of ${size} bytes; ms, MB, MB/s\n`);
  const copies = ["socket", "file", "ratio"];
  const memory = ["longest block", "CPU", "most memory"];
  console.log(row(["", "move", "MB/s", ...memory, ...copies], widths));
  console.log(row(["", "", "", "old / new", "old / new", "old / new", "ms, MB/s", "ms, MB/s", ""], widths));
  for (const [name, slot] of named(slots)) {
    const { ms, block, cpu, rss, socket, file } = slot;
    const pairs = [inMs(block.old, block.new), inMs(cpu.old, cpu.new)];
    const raw = [socket, file].map((way) => `${inMs(way.ms)}, ${speed(way)}`);
    const ratio = (Math.min(socket.ms, file.ms) / ms).toFixed(2);
    const peaks = `${rss.old.toFixed(0)} / ${rss.new.toFixed(0)}`;
    console.log(row([name, inMs(ms), String(speed(slot)), ...pairs, peaks, ...raw, ratio], widths));
  }
}

function named(all) {
  return [...all.map((one, n) => [String(n + 1), one]), ["median", median(all)]];
}
