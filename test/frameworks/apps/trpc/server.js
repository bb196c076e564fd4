import { createHTTPServer } from "@trpc/server/adapters/standalone";
import { Upgrader } from "handover";
import { router } from "./app.js";

const upg = new Upgrader();
await upg.listen(createHTTPServer({ router }), { port: process.env.PORT }); // in place of its listen()
await upg.ready();
await upg.exit;
