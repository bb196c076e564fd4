import { createServer } from "node:http";
import { expressMiddleware } from "@as-integrations/express5";
import express from "express";
import { Upgrader } from "handover";
import { apollo } from "./app.js";

await apollo.start();
const app = express();
app.use("/graphql", express.json(), expressMiddleware(apollo));

const upg = new Upgrader();
await upg.listen(createServer(app), { port: process.env.PORT }); // in place of app.listen()
await upg.ready();
await upg.exit;
await apollo.stop();
