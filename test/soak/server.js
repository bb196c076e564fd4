// The service under load: answers each request with what it was asked, in as many ways as HTTP/1.1 knows.
import { createServer } from "node:http";
import { setImmediate as turn } from "node:timers/promises";
import { Upgrader } from "handover";
import { webSockets } from "handover/ws";
import { WebSocketServer } from "ws";

async function answer(request, response) {
  let body = "";
  for await (const chunk of request.setEncoding("latin1")) body += chunk;
  const text = `${request.url} ${body}`;
  const way = Number(new URL(request.url, "http://a").searchParams.get("way"));
  if (way > 0) await turn();
  if (way < 2) response.setHeader("content-length", text.length);
  else response.write(text.slice(0, 5));
  if (way > 2) await turn();
  response.end(way < 2 ? text : text.slice(5));
}

const upg = new Upgrader(JSON.parse(process.argv[2] ?? "{}"));
const say = (event, fields = {}) =>
  console.log(JSON.stringify({ event, pid: process.pid, generation: upg.generation, ...fields }));

const server = createServer((request, response) => void answer(request, response));
const { port } = await upg.listen(server, { port: 0, host: "127.0.0.1", name: "soak" });
const wss = new WebSocketServer({ server, perMessageDeflate: false });
webSockets(upg, wss, {
  version: 1,
  save: ({ heard, pushed }) => ({ heard, pushed }),
  restore: (ws, counts) => Object.assign(ws, counts),
});
wss.on("connection", (ws) => {
  Object.assign(ws, { heard: 0, pushed: 0 });
  const timer = setInterval(() => ws.send(`push ${ws.pushed++}`), 200);
  ws.on("close", () => clearInterval(timer));
  ws.on("message", (data) => {
    const number = Number(data);
    if (number !== ws.heard++) console.error(`heard ${number} after ${ws.heard - 2}`);
    ws.send(`echo ${number}`);
  });
});
upg.on("rollback", ({ error }) => say("rollback", { message: error.message }));
upg.on("exit", (drained) => say("drained", drained));
await upg.ready();
say("accepting", { port });
say("exited", { outcome: await upg.exit });
