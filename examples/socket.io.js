// A socket.io server whose clients stay connected over upgrades, with the same id, rooms and data, and no reconnect.
import { createServer } from "node:http";
import { Upgrader } from "handover";
import { socketIo } from "handover/socket.io";
import { Server } from "socket.io";

const upg = new Upgrader({ probation: 1_000 });
const server = createServer();
const io = new Server(server, { connectionStateRecovery: {} });
socketIo(upg, io);

io.on("connection", (socket) => {
  if (!socket.recovered) {
    socket.data.count = 0;
    void socket.join("all");
  }
  socket.on("add", (answer) => answer({ generation: upg.generation, count: ++socket.data.count }));
  socket.on("say", (text) => io.to("all").emit("said", text));
});

const { port } = await upg.listen(server, { port: process.env.PORT ?? 8080 });
await upg.ready();
console.log(`${process.pid} listens on port ${port}`);
await upg.exit;
console.log(`${process.pid} has left`);
process.exit();
