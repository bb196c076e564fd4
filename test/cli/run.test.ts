import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { handover, startHandover } from "../support/program.js";
import { temporaryDirectory } from "../support/service.js";

const SERVER = `import { createServer } from "node:http";
import { Upgrader } from "handover";
const upg = new Upgrader();
await upg.listen(createServer((_, response) => response.end()), { host: "127.0.0.1", port: 0 });
await upg.ready();
console.log("ready", upg.generation, process.env.A);
await upg.exit;
`;

function project(program: string, config: object): string {
  const directory = temporaryDirectory();
  mkdirSync(join(directory, "node_modules"));
  symlinkSync(resolve("."), join(directory, "node_modules", "handover"));
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  writeFileSync(join(directory, "server.js"), program);
  writeFileSync(join(directory, ".env"), "A=1");
  const all = { program: "server.js", workers: 1, pidFile: "app.pid", probation: 300, ...config };
  writeFileSync(join(directory, "handover.config.json"), JSON.stringify(all));
  return directory;
}

test("handover run starts what its file says, takes the environment file anew at an upgrade, and stops with 0", async () => {
  const directory = project(SERVER, { envFile: ".env" });
  const pidFile = join(directory, "app.pid");
  const running = startHandover(["run"], { PWD: directory }, directory);
  await running.untilPrinted(/ready 0 1\n/);
  await expect.poll(() => handover("status", "--pid-file", pidFile)).toMatchObject({ code: 0 });
  writeFileSync(join(directory, ".env"), "A=2");
  expect(await handover("upgrade", "--pid-file", pidFile)).toMatchObject({ code: 0 });
  await running.untilPrinted(/ready 1 2\n/);
  writeFileSync(join(directory, ".env"), "nonsense");
  const failed = await handover("upgrade", "--pid-file", pidFile);
  expect(failed.code).toBe(1);
  expect(failed.stderr).toContain(`${join(directory, ".env")}: line 1 is not NAME=value`);
  running.kill("SIGTERM");
  expect(await running.ended).toMatchObject({ code: 0 });
});

test("handover run exits with 1 if every worker was given up", async () => {
  const directory = project("process.exit(3);", { restarts: 0 });
  const running = startHandover(["run"], { PWD: directory }, directory);
  expect(await running.ended).toMatchObject({ code: 1 });
});
