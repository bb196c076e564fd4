/**
 * An HTTP server behind a proxy that announces each client with a line of the PROXY protocol (HAProxy: `send-proxy`), which
 * the server reads before HTTP does. The client's address moves with the connection.
 *
 *   node examples/proxy-line.js
 *   printf 'PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\nGET / HTTP/1.0\r\n\r\n' | nc localhost 8080
 *   npx handover upgrade --pid-file /tmp/proxy-line.pid
 */
import { createServer } from "node:http";
import { http, Upgrader } from "handover";

const { PORT = "8080", PID_FILE = "/tmp/proxy-line.pid", PROBATION = "3000" } = process.env;
/** Characters of the longest line, without its end. */
const LONGEST = 105;

const upg = new Upgrader({ pidFile: PID_FILE, probation: Number(PROBATION) });
const addresses = new WeakMap();
const server = createServer((request, response) => {
  response.end(`${addresses.get(request.socket)} asks generation ${upg.generation}\n`);
});

// Node's own listener gives a connection to HTTP. This program does so when it has read the line.
const [serveHttp] = server.listeners("connection");
server.removeListener("connection", serveHttp);
server.on("connection", (socket) => {
  // The predecessor has read the line.
  if (socket.handover === undefined) readLine(socket);
  else serveHttp.call(server, socket);
});

function readLine(socket) {
  let text = "";
  socket.on("error", () => socket.destroy());
  socket.on("data", function read(chunk) {
    text += chunk.toString("latin1");
    const [, address, rest] = /^PROXY TCP[46] (\S+) \S+ \d+ \d+\r\n([^]*)$/.exec(text) ?? [];
    if (address === undefined) {
      if (text.length > LONGEST) socket.destroy();
      return;
    }
    socket.off("data", read).pause();
    socket.unshift(Buffer.from(rest, "latin1"));
    addresses.set(socket, address);
    serveHttp.call(server, socket);
    socket.resume();
  });
}

const connections = http({
  version: 1,
  save: (socket) => addresses.get(socket),
  restore: (socket, address) => addresses.set(socket, address),
});
await upg.listen(server, { port: PORT, connections });
await upg.ready();
console.log(`${process.pid} listens on port ${server.address().port}`);
await upg.exit;
console.log(`${process.pid} has left`);
