// The server whose state moves. It reports each event for state.js as one line of JSON.
import { randomFillSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Upgrader } from "handover";
import { now, LoopMonitor } from "./loop-monitor.js";

/** ms after a move that count as its cost: the cleanup. */
const AFTER = 500;
const { KIND, COUNT, SIZE, DIRECTORY } = process.env;
const [count, size] = [Number(COUNT), Number(SIZE)];
const MIB = 1024 ** 2;
const upg = new Upgrader();
const monitor = new LoopMonitor();
const role = upg.hasParent ? "new" : "old";
/** When each unit stopped or started here. The times stay in memory until the end, so that measuring costs little. */
const times = new Float64Array(count);

if (KIND === "units") await prepareUnits();
else prepareSlot();
// The work from here to the commit is too small to cause the longest delay.
upg.once("upgrading", () => void monitor.begin());
upg.once("upgraded", () => report("commit"));
if (upg.hasParent) {
  // Pending work from the start of the process does not belong to the move.
  await new Promise((resolve) => setImmediate(resolve));
  await monitor.begin();
}
await upg.ready();
report("ready");
await upg.exit;
if (role === "old") await reportCost();
process.exit();

async function prepareUnits() {
  let begun = 0;
  const units = upg.units("bench", {
    version: 1,
    run(id, state, { signal }) {
      if (role === "new") times[id] = now();
      else signal.addEventListener("abort", () => (times[id] = now()), { once: true });
      if (++begun === count && role === "new") setTimeout(() => void reportCost(), AFTER);
      return state;
    },
    freeze: (_, state) => state,
  });
  if (upg.hasParent) return;
  upg.once("exit", (ended) => report("moved", ended.units.bench));
  const length = size - '{"text":""}'.length;
  for (let n = 0; n < count; n++) await units.start(String(n), { text: String(n).padEnd(length, "x") });
}

function prepareSlot() {
  const slot = upg.slot("bench", { version: 1 });
  if (upg.hasParent) {
    slot.subscribe(({ data }) => {
      report("taken", { size: data.length });
      setTimeout(() => void reportCost(), AFTER);
    });
    return;
  }
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += MIB) randomFillSync(bytes, at, Math.min(MIB, size - at));
  void slot.initiate(() => {
    report("offered");
    return bytes;
  });
}

async function reportCost() {
  const cost = await monitor.end(`${KIND}-${role}`);
  writeFileSync(join(DIRECTORY, role), times);
  report("cost", { ...cost, rss: process.resourceUsage().maxRSS / 1024, role });
}

function report(what, more) {
  console.log(JSON.stringify({ what, pid: process.pid, at: now(), ...more }));
}
