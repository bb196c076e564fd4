// The HTTPS server of tls.js: a GET of /N is answered by N bytes, a POST by the number of bytes that it had. It reports its
// CPU time on SIGUSR2, as one line of JSON.
import { createServer } from "node:https";
import { Upgrader } from "handover";

const { KEY: key, CERT: cert, MOVES } = process.env;
const bodies = new Map();
const server = createServer({ key, cert }, (request, response) => {
  if (request.method === "GET") return response.end(bodyOf(Number(request.url.slice(1))));
  let size = 0;
  request.on("data", (chunk) => (size += chunk.length));
  return request.on("end", () => response.end(String(size)));
});
server.keepAliveTimeout = 600_000;
process.on("SIGUSR2", () => {
  const { user, system } = process.cpuUsage();
  report("cost", { cpu: user + system });
});

const upg = new Upgrader({ probation: 1, tls: MOVES === "yes" });
const { port } = await upg.listen(server, { port: 0, host: "127.0.0.1" });
await upg.ready();
report("accepts", { port });
await upg.waitForParent();
if (upg.hasParent) report("alone");
await upg.exit;

function bodyOf(size) {
  if (!bodies.has(size)) bodies.set(size, Buffer.alloc(size, "x"));
  return bodies.get(size);
}

function report(what, more) {
  console.log(JSON.stringify({ what, pid: process.pid, ...more }));
}
