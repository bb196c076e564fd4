// The program whose start is measured: it says when it accepts.
import { createServer } from "node:http";
import { Upgrader } from "handover";

const upg = new Upgrader({ probation: 1 });
await upg.listen(
  createServer((_, response) => response.end("ok")),
  { port: 0, host: "127.0.0.1" },
);
await upg.ready();
console.log(process.pid);
await upg.exit;
