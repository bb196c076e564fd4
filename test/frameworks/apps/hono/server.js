import { createAdaptorServer } from "@hono/node-server";
import { Upgrader } from "handover";
import { app } from "./app.js";

const upg = new Upgrader();
const server = createAdaptorServer({ fetch: app.fetch }); // in place of serve()
await upg.listen(server, { port: process.env.PORT });
await upg.ready();
await upg.exit;
