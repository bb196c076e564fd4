import { createServer } from "node:http";
import { Upgrader } from "handover";
import { app } from "./app.js";

const upg = new Upgrader();
await upg.listen(createServer(app), { port: process.env.PORT }); // in place of app.listen()
await upg.ready();
await upg.exit;
