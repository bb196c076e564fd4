import { NestFactory } from "@nestjs/core";
import { AppModule } from "./app.module.js";

const app = await NestFactory.create(AppModule, { logger: false });
app.enableShutdownHooks();
await app.listen(process.env["PORT"]!);
