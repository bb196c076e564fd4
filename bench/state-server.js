// The server whose state moves: a line of JSON for each thing that state.js has to know.
import { randomFillSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Upgrader } from "handover";
import { now, LoopMonitor } from "./loop-monitor.js";

/** ms: what is tidied up after a move belongs to it. */
const AFTER = 500;
const { KIND, COUNT, SIZE, DIRECTORY } = process.env;
const [count, size] = [Number(COUNT), Number(SIZE)];
const MIB = 1024 ** 2;
const upg = new Upgrader();
const watch = new LoopMonitor();
const role = upg.hasParent ? "new" : "old";
/** When each unit ended here, or began: numbers in memory until all is over, so that measuring costs little. */
const times = new Float64Array(count);

if (KIND === "units") await prepareUnits();
else prepareSlot();
// The little that is done from here until the commit does not change which delay is the longest.
upg.once("upgrading", () => void watch.begin());
upg.once("upgraded", () => say("commit"));
if (upg.hasParent) {
  // Of the start of a process there may be something left to do, which belongs to no move.
  await new Promise((resolve) => setImmediate(resolve));
  await watch.begin();
}
await upg.ready();
say("ready");
await upg.exit;
if (role === "old") await report();
process.exit();

async function prepareUnits() {
  let begun = 0;
  const units = upg.units("bench", {
    version: 1,
    run(id, state, { signal }) {
      if (role === "new") times[id] = now();
      else signal.addEventListener("abort", () => (times[id] = now()), { once: true });
      if (++begun === count && role === "new") setTimeout(() => void report(), AFTER);
      return state;
    },
    freeze: (_, state) => state,
  });
  if (upg.hasParent) return;
  upg.once("exit", (ended) => say("moved", ended.units.bench));
  const length = size - '{"text":""}'.length;
  for (let n = 0; n < count; n++) await units.start(String(n), { text: String(n).padEnd(length, "x") });
}

function prepareSlot() {
  const slot = upg.slot("bench", { version: 1 });
  if (upg.hasParent) {
    slot.subscribe(({ data }) => {
      say("taken", { size: data.length });
      setTimeout(() => void report(), AFTER);
    });
    return;
  }
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += MIB) randomFillSync(bytes, at, Math.min(MIB, size - at));
  void slot.initiate(() => {
    say("offered");
    return bytes;
  });
}

async function report() {
  const cost = await watch.end(`${KIND}-${role}`);
  writeFileSync(join(DIRECTORY, role), times);
  say("cost", { ...cost, rss: process.resourceUsage().maxRSS / 1024, role });
}

function say(what, more) {
  console.log(JSON.stringify({ what, pid: process.pid, at: now(), ...more }));
}
