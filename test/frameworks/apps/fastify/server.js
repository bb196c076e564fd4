import { Upgrader } from "handover";
import { webSockets } from "handover/ws";
import { app } from "./app.js";

const upg = new Upgrader();
await app.ready(); // before app.server is used
webSockets(upg, app.websocketServer, { version: 1 }); // with @fastify/websocket
await upg.listen(app.server, { port: process.env.PORT }); // in place of app.listen()
await upg.ready();
await upg.exit;
await app.close(); // runs the hooks onClose
