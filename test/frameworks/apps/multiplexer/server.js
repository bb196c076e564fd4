// One port for HTTP and for a protocol of one line. The first byte of a connection tells them apart.
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { http, Upgrader } from "handover";

const upg = new Upgrader();
const server = createServer(async (request, response) => {
  const word = request.method === "POST" ? await text(request) : "hello";
  response.end(`${word} from ${process.pid}`);
});

const [serveHttp] = server.listeners("connection");
server.removeListener("connection", serveHttp);
server.on("connection", (socket) => {
  // A connection of HTTP that has moved: its first byte was read in the predecessor.
  if (socket.handover !== undefined) return serveHttp.call(server, socket);
  const leave = () => socket.destroy();
  socket.once("error", leave).once("end", leave);
  socket.once("data", (chunk) => {
    socket.off("end", leave).pause().unshift(chunk);
    if (chunk[0] === STAR) serveLine(socket);
    else serveHttp.call(server, socket);
    socket.resume();
  });
});

const STAR = "*".charCodeAt(0);

function serveLine(socket) {
  let line = "";
  socket.on("end", () => socket.end());
  socket.on("data", (chunk) => {
    line += chunk;
    if (line.endsWith("\n")) socket.end(`${line.trim()} from ${process.pid}\n`);
  });
}

await upg.listen(server, { port: process.env.PORT, connections: http({ version: 1 }) });
await upg.ready();
await upg.exit;
