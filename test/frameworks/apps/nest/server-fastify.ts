import { NestFactory } from "@nestjs/core";
import { FastifyAdapter, type NestFastifyApplication } from "@nestjs/platform-fastify";
import { Upgrader } from "handover";
import { AppModule } from "./app.module.js";

const app = await NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter(), {
  logger: false,
});

const upg = new Upgrader();
await app.init();
await app.getHttpAdapter().getInstance().ready(); // of Fastify
await upg.listen(app.getHttpServer(), { port: Number(process.env["PORT"]) });
await upg.ready();
await upg.exit;
await app.close();
