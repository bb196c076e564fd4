// A chat in rooms on several hosts: ws://HOST:PORT/<room>. A room runs on one host. When that stops, the room moves to
// another one; its members are told the address, and connect again. Start it with DATABASE=postgres://… and an ADDRESS on
// each host, after: handover migrate postgres://…. See it live with: npm run example:hosts
import { createServer } from "node:http";
import { Upgrader } from "handover";
import { postgres } from "handover/postgres";
import { webSockets } from "handover/ws";
import { WebSocketServer } from "ws";

const { PORT = 8080, DATABASE, ADDRESS = `127.0.0.1:${PORT}`, LEASE = 15_000 } = process.env;

const upg = new Upgrader({
  exchange: postgres({ url: DATABASE, service: "chat", lease: Number(LEASE) }),
  address: ADDRESS,
  probation: 500,
});
const server = createServer();
const wss = new WebSocketServer({ server });

const rooms = upg.units("room", {
  scope: "global",
  version: 1,
  run: (_, { history }, { attach, signal }) => ({ history, attach, signal, members: new Set() }),
  // The members cannot move to another host. They are closed with 1012 and the new address when the room is there.
  freeze: (_, { history }) => ({ history }),
  // Their messages are lost with a host that dies: a database would have them.
  recover: () => ({ history: [] }),
});

// In an upgrade in place they move with their room.
webSockets(upg, wss, { version: 1, save: ({ room }) => ({ room }) });

wss.on("connection", async (ws, request) => {
  const id = request.url.slice(1);
  const early = [];
  let room;
  ws.on("message", (/** @type {Buffer} */ data) => {
    if (room === undefined) early.push(data.toString());
    else say(room, data.toString());
  });
  try {
    room = await rooms.start(id, { history: [] });
  } catch (error) {
    // The client connects to the host that has the room; or here again, if it is on its way.
    const address = error.code === "ERR_ELSEWHERE" ? error.owner.address : "";
    return ws.close(1012, address);
  }
  room.attach(ws);
  room.members.add(ws);
  ws.on("close", () => room.members.delete(ws));
  // What it is told first, so that it knows which of its own things got lost with its last connection.
  if (request.handover === undefined) ws.send(room.history.join("\n"));
  for (const text of early) say(room, text);
});

function say(room, text) {
  // The room has been frozen: what is said now is not in the state that moves. Its members say it again where it is.
  if (room.signal.aborted) return;
  room.history.push(text);
  for (const member of room.members) member.send(text);
}

await upg.listen(server, { port: PORT, host: "127.0.0.1" });
await upg.ready();
console.log(`${process.pid} chats on ${ADDRESS}`);
const outcome = await upg.exit;
console.log(`${process.pid} has left: ${outcome}`);
