// The server whose connections move. It reports each event for connections.js as one line of JSON.
import { createServer } from "node:http";
import { Upgrader } from "handover";
import { now, LoopMonitor } from "./loop-monitor.js";

const upg = new Upgrader({ probation: 1 });
const { generation } = upg;
const monitor = new LoopMonitor();
let isReplaced = false;

const server = createServer((_, response) => response.end("ok"));
server.keepAliveTimeout = 60_000;
const { port } = await upg.listen(server, { port: 0, host: "127.0.0.1" });

// The work from here to the commit is too small to cause the longest delay.
upg.once("upgrading", () => void monitor.begin());
upg.once("upgraded", () => {
  isReplaced = true;
  reportMoved(now());
});
process.once("SIGUSR2", () => void reportCost());
if (upg.hasParent) await monitor.begin();
report("start");
await upg.ready();
report("ready", { port });
if ((await upg.exit) === "upgraded") await reportCost();

/** Runs in both processes when the move is over. */
async function reportCost() {
  const cost = await monitor.end(`${generation}-${isReplaced ? "leaving" : "arriving"}`);
  report("cost", { ...cost, role: isReplaced ? "old" : "new" });
}

/** Runs in the old process, from the turn of the commit on: to print in that one would make it longer. */
function reportMoved(commit) {
  const timer = setInterval(() => {
    server.getConnections((_, count) => {
      if (count > 0) return;
      clearInterval(timer);
      report("moved", { commit });
    });
  }, 1);
}

function report(what, more) {
  console.log(JSON.stringify({ what, generation, pid: process.pid, at: now(), ...more }));
}
