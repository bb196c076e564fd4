import { NestFactory } from "@nestjs/core";
import { Upgrader } from "handover";
import { AppModule } from "./app.module.js";

const app = await NestFactory.create(AppModule, { logger: false });

const upg = new Upgrader();
await app.init(); // app.listen() would do it
await upg.listen(app.getHttpServer(), { port: Number(process.env["PORT"]) });
await upg.ready();
await upg.exit;
await app.close(); // the shutdown hooks, in place of enableShutdownHooks()
