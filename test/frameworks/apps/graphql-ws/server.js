import { Upgrader } from "handover";
import { webSockets } from "handover/ws";
import { server, wss } from "./app.js";

const upg = new Upgrader({ drainTimeout: 2_000 });
webSockets(upg, wss, { move: false }); // the successor does not know the sessions inside of them
await upg.listen(server, { port: process.env.PORT }); // in place of server.listen()
await upg.ready();
await upg.exit;
