import { Upgrader } from "handover";
import { socketIo } from "handover/socket.io";
import { io, server } from "./app.js";

const upg = new Upgrader();
socketIo(upg, io);
await upg.listen(server, { port: process.env.PORT }); // in place of server.listen()
await upg.ready();
await upg.exit;
process.exit(); // socket.io keeps the process alive
