import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { expect, test } from "vitest";

/** The mistakes that docs/frameworks.md warns of: what a request is answered, without the line that is missing. */
test.each([
  ["createServer() takes an application of fastify for options", "createServer(fastify())", "no listener"],
  ["fastify fails at a request before app.ready()", "fastify().server", "TypeError"],
  [
    "nest has no route before app.init()",
    "(await NestFactory.create(AppModule, { logger: false })).getHttpServer()",
    "404",
  ],
])("%s", (_, server, seen) => {
  const program = `
    import { once } from "node:events";
    import { createServer } from "node:http";
    import { NestFactory } from "@nestjs/core";
    import fastify from "fastify";
    import { AppModule } from "./nest/dist/app.module.js";

    const end = (seen) => { console.log(seen); process.exit(); };
    process.on("uncaughtException", ({ name }) => end(name));
    const server = ${server};
    if (server.listenerCount("request") === 0) end("no listener");
    await once(server.listen(0, "127.0.0.1"), "listening");
    end((await fetch(\`http://127.0.0.1:\${server.address().port}/\`)).status);`;
  const cwd = resolve("test/frameworks/apps");
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", program], {
    cwd,
    encoding: "utf8",
  });
  expect([stdout, stderr]).toEqual([`${seen}\n`, ""]);
});
