import { Upgrader } from "handover";
import { webSockets } from "handover/ws";
import { server, wss } from "./app.js";

const upg = new Upgrader();
webSockets(upg, wss, { version: 1 }); // and save() and restore(), if the server knows more of a connection
await upg.listen(server, { port: process.env.PORT }); // in place of server.listen()
await upg.ready();
await upg.exit;
