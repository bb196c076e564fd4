// An HTTP server that can be upgraded; `handover demo` runs it. Copy it, start it with PID_FILE=app.pid, change the
// file, and replace the server with: handover upgrade --pid-file app.pid
import { createServer } from "node:http";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Upgrader } from "handover";

const { PORT = 0, PID_FILE, PROBATION = 3_000 } = process.env;

const upg = new Upgrader({ pidFile: PID_FILE, probation: Number(PROBATION) });

const server = createServer(async (request, response) => {
  response.setHeader("x-generation", upg.generation);
  if (request.method === "POST") return pipeline(request, response);
  if (request.url === "/slow") await sleep(300);
  if (request.url === "/stream") return pipeline(count, response);
  return response.end(`generation ${upg.generation}, pid ${process.pid}\n`);
});

// A response that takes about a second.
async function* count() {
  for (let n = 0; n < 10; n++) {
    yield `${n}\n`;
    await sleep(100);
  }
}

const { port } = await upg.listen(server, { port: PORT, host: "127.0.0.1" });
await upg.ready();
console.log(`generation ${upg.generation}, pid ${process.pid}, on http://127.0.0.1:${port}`);
await upg.exit;
