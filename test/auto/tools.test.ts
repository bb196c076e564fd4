import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { Client, selfSigned } from "../support/client.js";
import { project } from "../support/documented.js";
import { fixturePath } from "../support/faults.js";
import { freePort } from "../support/port.js";
import { handover, startHandover } from "../support/program.js";
import { ask, temporaryDirectory } from "../support/service.js";

describe("in a shell with NODE_OPTIONS as handover auto prints it", () => {
  const VITEST = "import { expect, test } from 'vitest'; test('adds', () => expect(1 + 1).toBe(2));";

  test.each([
    ["npm", ["--version"], /^\d+\.\d+\.\d+\n$/],
    [process.execPath, [resolve("node_modules/typescript/bin/tsc"), "--version"], /^Version \d/],
    [process.execPath, [resolve("node_modules/vitest/vitest.mjs"), "run"], /1 passed/],
  ])("%s %s works as ever, and leaves no file", async (command, args, expected) => {
    const { stdout: option } = await handover("auto");
    const directory = project({ "one.test.js": VITEST });
    symlinkSync(resolve("node_modules/vitest"), join(directory, "node_modules", "vitest"));
    const XDG_RUNTIME_DIR = temporaryDirectory();
    const env = { ...process.env, NODE_OPTIONS: option.trim(), XDG_RUNTIME_DIR };
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: directory, env, encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(expected);
  });
});

describe("handover run --auto", () => {
  test.each([
    [["npx", "--yes"]],
    [["npm", "exec", "--"]],
    [["pnpm", "exec"]],
    [["yarn"]],
    [["yarn", "run"]],
    [[]],
  ])("starts the program of a package itself, in place of %s", async (runner) => {
    const { directory, port } = await withPackage();
    const env = { XDG_RUNTIME_DIR: temporaryDirectory() };
    const words = ["run", "--auto", "--workers", "1", "--", ...runner, "hello", port];
    const service = startHandover(words, env, directory);
    await service.untilPrinted(/\d+ listens/);
    const [pid] = /^\d+/.exec(await service.untilPrinted(/\d+ listens/))!;
    await expect.poll(async () => ask(port).catch(() => "")).toBe(pid);
    service.kill("SIGTERM");
    expect((await service.ended).code).toBe(0);
  });

  test("moves the connections of an HTTPS server to the workers of two upgrades", async () => {
    const port = await freePort();
    const [pidFile, settings] = [
      join(temporaryDirectory(), "pid"),
      JSON.stringify({ port, kind: "https", tls: selfSigned() }),
    ];
    const options = ["--auto", "--workers", "2", "--probation", "50ms", "--pid-file", pidFile];
    const service = startHandover(["run", ...options, "--", fixturePath("auto/server.mjs"), settings]);
    await service.untilPrinted(/"listening"[^]*"listening"/);
    await expect.poll(async () => (await handover("status", "--pid-file", pidFile)).code).toBe(0);
    const clients = await Promise.all(Array.from({ length: 8 }, () => Client.openTls(port)));
    const workers = async (): Promise<Set<string>> =>
      new Set(await Promise.all(clients.map((client) => client.ask())));
    let before = await workers();
    for (let upgrade = 0; upgrade < 2; upgrade++) {
      expect((await handover("upgrade", "--pid-file", pidFile)).code).toBe(0);
      await expect.poll(async () => [...(await workers())].filter((pid) => before.has(pid))).toEqual([]);
      before = await workers();
    }
    service.kill("SIGTERM");
    expect((await service.ended).code).toBe(0);
  });

  test.each([
    ["npm run serve", "give its command instead, hello 8080"],
    ["npm --silent run serve", "which passes no sockets on: give its own command"],
    ["npm run --silent serve", "give its command instead, hello 8080"],
    ["npm start", "which passes no sockets on: give its own command"],
  ])("refuses %s, and says what to do", async (words, message) => {
    const { directory } = await withPackage();
    const run = await startHandover(["run", "--auto", "--", ...words.split(" ")], {}, directory).ended;
    expect(run.code).toBe(2);
    expect(run.stderr).toContain(message);
  });
});

/** A project in which a package brings the command `hello PORT`. */
async function withPackage(): Promise<{ directory: string; port: number }> {
  const manifest = JSON.stringify({ type: "module", scripts: { serve: "hello 8080" } });
  const directory = project({ "package.json": manifest });
  const file = join(directory, "node_modules", "hello.cjs");
  const listen = "listen(process.argv[2], () => console.log(`${process.pid} listens`))";
  const server = "require('node:http').createServer((_, response) => response.end(`${process.pid}`))";
  writeFileSync(file, `#!/usr/bin/env node\n${server}.${listen};\n`);
  chmodSync(file, 0o755);
  mkdirSync(join(directory, "node_modules", ".bin"));
  symlinkSync("../hello.cjs", join(directory, "node_modules", ".bin", "hello"));
  return { directory, port: await freePort() };
}
