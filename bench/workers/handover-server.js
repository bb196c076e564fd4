// The server of the peers, with nothing but handover.
import { Upgrader } from "handover";
import { webSockets } from "handover/ws";
import { server, wss } from "../peers/app.js";

const upg = new Upgrader();
webSockets(upg, wss, { version: 1 });
await upg.listen(server, { port: process.env.PORT, host: "127.0.0.1" });
await upg.ready();
await upg.exit;
