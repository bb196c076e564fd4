// A chat in rooms, over WebSockets: ws://localhost:8080/<room>. In an upgrade the rooms and the connections of their
// members move independently; no member misses a message or gets one twice. Start it with PID_FILE=app.pid, and
// replace it with: handover upgrade --pid-file app.pid
import { createServer } from "node:http";
import { Upgrader } from "handover";
import { webSockets } from "handover/ws";
import { WebSocketServer } from "ws";

const { PORT = 8080, PID_FILE, HISTORY = 1_000, PROBATION = 3_000 } = process.env;

const upg = new Upgrader({ pidFile: PID_FILE, probation: Number(PROBATION) });
const server = createServer();
const wss = new WebSocketServer({ server });

/** Whose connections are here, by room. A room may be here without some of them, or they without their room. */
const members = new Map();

// A room numbers its messages. Each member stores the number of its last one, so the next process knows which to send.
const rooms = upg.units("room", {
  version: 1,
  run(id, room) {
    // When this returns, the room is here; members that arrived before it have waited.
    setImmediate(() => membersOf(id).forEach(serve));
    return room;
  },
  freeze: (_, room) => room,
});

webSockets(upg, wss, {
  version: 1,
  save: ({ seen, unsaid }) => ({ seen, unsaid }),
});

wss.on("connection", (ws, request) => {
  Object.assign(ws, { room: request.url, seen: 0, unsaid: [] }, request.handover?.state);
  membersOf(ws.room).add(ws);
  ws.on("message", (/** @type {Buffer} */ data) => {
    ws.unsaid.push(data.toString());
    serve(ws);
  });
  ws.on("close", () => membersOf(ws.room).delete(ws));
  // Waits for the room if the old process still has it. In the old process the room may have moved: the connection
  // follows.
  rooms.start(ws.room, { last: 0, history: [] }).then(
    () => serve(ws),
    () => upg.state !== "draining" && ws.close(1013),
  );
});

/** Delivers the messages of a member if the room is here; otherwise they wait, and move with the connection. */
function serve(ws) {
  const room = rooms.get(ws.room);
  if (room === undefined) return;
  for (const text of ws.unsaid.splice(0)) {
    room.history.push(JSON.stringify({ number: ++room.last, text }));
    if (room.history.length > HISTORY) room.history.shift();
    membersOf(ws.room).forEach((member) => deliver(member, room));
  }
  deliver(ws, room);
}

function deliver(ws, { last, history }) {
  for (const message of history.slice(Math.max(0, history.length - last + ws.seen))) ws.send(message);
  ws.seen = last;
}

function membersOf(id) {
  if (!members.has(id)) members.set(id, new Set());
  return members.get(id);
}

const { port } = await upg.listen(server, { port: PORT, host: "127.0.0.1" });
await upg.ready();
console.log(`${process.pid} chats on port ${port}`);
await upg.exit;
console.log(`${process.pid} has left`);
