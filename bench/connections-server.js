// The server whose connections move: a line of JSON for each thing that connections.js has to know.
import { createServer } from "node:http";
import { Upgrader } from "handover";
import { now, LoopMonitor } from "./loop-monitor.js";

const upg = new Upgrader({ probation: 1 });
const { generation } = upg;
const watch = new LoopMonitor();
let isReplaced = false;

const server = createServer((_, response) => response.end("ok"));
server.keepAliveTimeout = 60_000;
const { port } = await upg.listen(server, { port: 0, host: "127.0.0.1" });

// The little that is done from here until the commit does not change which delay is the longest.
upg.once("upgrading", () => void watch.begin());
upg.once("upgraded", () => {
  isReplaced = true;
  say("commit");
});
upg.once("exit", ({ moved }) => say("moved", { moved }));
process.once("SIGUSR2", () => void report());
if (upg.hasParent) await watch.begin();
say("start");
await upg.ready();
say("ready", { port });
if ((await upg.exit) === "upgraded") await report();

/** When the move is over, in both processes. */
async function report() {
  const cost = await watch.end(`${generation}-${isReplaced ? "leaving" : "arriving"}`);
  say("cost", { ...cost, role: isReplaced ? "old" : "new" });
}

function say(what, more) {
  console.log(JSON.stringify({ what, generation, pid: process.pid, at: now(), ...more }));
}
