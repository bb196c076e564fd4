import { createServer } from "node:http";
import next from "next";
import { Upgrader } from "handover";

const upg = new Upgrader();
const app = next({ dev: false });
await app.prepare();
await upg.listen(createServer(app.getRequestHandler()), { port: process.env.PORT });
await upg.ready();
await upg.exit;
process.exit(); // Next keeps the process alive
