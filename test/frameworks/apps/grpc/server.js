import { createServer } from "node:net";
import { ServerCredentials } from "@grpc/grpc-js";
import { Upgrader } from "handover";
import { grpc } from "./app.js";

const upg = new Upgrader();
const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
const server = createServer((socket) => injector.injectConnection(socket));
upg.once("draining", () => injector.drain(10_000)); // GOAWAY: clients open new connections
await upg.listen(server, { port: process.env.PORT }); // in place of bindAsync()
await upg.ready();
await upg.exit;
