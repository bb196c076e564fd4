// The server whose connections move: a line of JSON for each thing that connections.js has to know.
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Upgrader } from "handover";

const { PROFILES } = process.env;
const upg = new Upgrader({ probation: 1 });
const { generation } = upg;
const profiler = new Session();
const delay = monitorEventLoopDelay({ resolution: 1 });
let cpu;
let isReplaced = false;

const server = createServer((_, response) => response.end("ok"));
server.keepAliveTimeout = 60_000;
const { port } = await upg.listen(server, { port: 0, host: "127.0.0.1" });

// The little that is done from here until the commit does not change which delay is the longest.
upg.once("upgrading", () => void watch());
upg.once("upgraded", () => {
  isReplaced = true;
  say("commit");
});
upg.once("exit", ({ handedOver }) => say("moved", { handedOver }));
process.once("SIGUSR2", () => void report());
if (upg.hasParent) await watch();
say("start");
await upg.ready();
say("ready", { port });
if ((await upg.exit) === "upgraded") await report();

async function watch() {
  cpu = process.cpuUsage();
  delay.reset();
  delay.enable();
  if (PROFILES === undefined) return;
  profiler.connect();
  await profiler.post("Profiler.enable");
  await profiler.post("Profiler.setSamplingInterval", { interval: 200 });
  await profiler.post("Profiler.start");
}

/** When the move is over, in both processes. */
async function report() {
  delay.disable();
  const { user, system } = process.cpuUsage(cpu);
  if (PROFILES !== undefined) {
    const { profile } = await profiler.post("Profiler.stop");
    profiler.disconnect();
    const name = `${generation}-${isReplaced ? "leaving" : "arriving"}.cpuprofile`;
    writeFileSync(join(PROFILES, name), JSON.stringify(profile));
  }
  say("cost", { block: delay.max / 1e6, cpu: (user + system) / 1e3, role: isReplaced ? "old" : "new" });
}

/** The clock is the host's monotonic one: the same in every process. */
function say(what, more) {
  const at = Number(process.hrtime.bigint()) / 1e6;
  console.log(JSON.stringify({ what, generation, pid: process.pid, at, ...more }));
}
