// The server of steady.js, with handover or without: `hello` by HTTP, an echo by WebSocket. It reports what the benchmark
// asks for as one line of JSON: on SIGUSR2 its CPU time, or with COLLECT its memory without garbage.
import { createServer } from "node:http";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { WebSocketServer } from "ws";

const { WITH, COLLECT } = process.env;
setFlagsFromString("--expose-gc");
const collect = COLLECT ? runInNewContext("gc") : () => {};
const server = createServer((_, response) => response.end("hello"));
server.keepAliveTimeout = 600_000;
const wss = new WebSocketServer({ server });
wss.on("connection", (ws) => ws.on("message", (data) => ws.send(data)));
process.on("SIGUSR2", () => {
  collect();
  const { user, system } = process.cpuUsage();
  report("cost", { cpu: user + system, rss: process.memoryUsage.rss() });
});

const where = { port: 0, host: "127.0.0.1" };
if (WITH === "handover") await serveWithHandover();
else server.listen(where, () => report("accepts", { port: server.address().port }));

async function serveWithHandover() {
  const { Upgrader } = await import("handover");
  const { webSockets } = await import("handover/ws");
  const upg = new Upgrader({ probation: 1 });
  webSockets(upg, wss, { version: 1 });
  const { port } = await upg.listen(server, where);
  await upg.ready();
  report("accepts", { port });
  await upg.waitForParent();
  if (upg.hasParent) report("alone");
  await upg.exit;
}

function report(what, more) {
  console.log(JSON.stringify({ what, pid: process.pid, ...more }));
}
