// The program of start.js with handover: it reports when it accepts, and when its predecessor has exited.
import { createServer } from "node:http";
import { Upgrader } from "handover";

const upg = new Upgrader({ probation: 1 });
await upg.listen(
  createServer((_, response) => response.end("ok")),
  { port: 0, host: "127.0.0.1" },
);
await upg.ready();
report("accepts");
await upg.waitForParent();
if (upg.hasParent) report("alone");
await upg.exit;

function report(what) {
  console.log(JSON.stringify({ what, pid: process.pid }));
}
