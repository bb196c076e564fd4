import { Upgrader } from "handover";
import { io, server } from "./app.js";

const upg = new Upgrader({ drainTimeout: 2_000 });
await upg.listen(server, { port: process.env.PORT }); // in place of server.listen()
await upg.ready();
await upg.exit;
await io.close();
