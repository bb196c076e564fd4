// The program of start.js with handover: it reports when it accepts, when its predecessor has exited, and when a successor
// is staged, which SIGUSR2 requests.
import { createServer } from "node:http";
import { Upgrader } from "handover";

if (process.env.HEAVY) await import("./heavy-imports.js");
const upg = new Upgrader({
  probation: 1,
  ...(process.env.CONTROL && { controlSocket: process.env.CONTROL }),
});
process.on("SIGUSR2", () => void upg.stage().then(() => report("staged")));
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
