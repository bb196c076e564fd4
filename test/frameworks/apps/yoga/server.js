import { createServer } from "node:http";
import { Upgrader } from "handover";
import { yoga } from "./app.js";

const upg = new Upgrader();
await upg.listen(createServer(yoga), { port: process.env.PORT }); // in place of server.listen()
await upg.ready();
await upg.exit;
