import { createServer } from "node:http";
import { createRequestHandler } from "@react-router/express";
import express from "express";
import { Upgrader } from "handover";
import * as build from "./build/server/index.js";

const app = express();
app.use(express.static("build/client"));
app.use(createRequestHandler({ build }));

const upg = new Upgrader();
await upg.listen(createServer(app), { port: process.env.PORT }); // in place of react-router-serve
await upg.ready();
await upg.exit;
