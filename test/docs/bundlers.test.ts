import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Page } from "../support/page.js";
import { handover } from "../support/program.js";
import { ask, Service, temporaryDirectory } from "../support/service.js";
import { WebSocketClient } from "../support/websocket.js";

const page = Page.open("bundlers");
const program = page.block("js", "// server.js");
const commands = { esm: page.block("sh", "--format=esm"), cjs: page.block("sh", "--format=cjs") };

const built = mkdtempSync(join(tmpdir(), "handover-bundles-"));
beforeAll(() => execFileSync(process.execPath, ["native/prebuild.js"]));
afterAll(() => rmSync(built, { recursive: true }));

const formats = ["esm", "cjs"] as const;

test.each(formats)(
  "a program that is bundled as docs/bundlers.md says (%s) is upgraded, with its WebSocket, and rolled back",
  async (format) => {
    const { file, directory } = bundle(format);
    expect(readdirSync(directory).toSorted()).toEqual([
      "handover.node",
      `server.${format === "esm" ? "mjs" : "cjs"}`,
    ]);
    const service = Service.start("", { command: [process.execPath, file], cwd: directory });
    const port = Number((await service.until("accepting", { generation: 0 })).port);
    const pidFile = join(directory, "app.pid");
    const client = await WebSocketClient.open(`ws://127.0.0.1:${port}`);

    expect(await handover("upgrade", "--pid-file", pidFile)).toMatchObject({ code: 0, stderr: "" });
    client.ws.send("");
    await expect.poll(() => client.messages).toEqual(["generation 1"]);
    expect(await ask(port)).toBe("generation 1\n");

    const upgrading = handover("upgrade", "--pid-file", pidFile);
    process.kill((await service.until("accepting", { generation: 2 })).pid, "SIGKILL");
    expect(await upgrading).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("rolled back") as string,
    });
    expect(await ask(port)).toBe("generation 1\n");
    expect(JSON.parse((await handover("status", "--pid-file", pidFile, "--json")).stdout)).toMatchObject({
      generation: 1,
      state: "ready",
    });
    expect(await handover("doctor", "--pid-file", pidFile)).toMatchObject({ code: 0 });
    expect(await handover("stop", "--pid-file", pidFile)).toMatchObject({ code: 0, stderr: "" });
    await service.ended();
    expect(service.noise).toBe("");
  },
);

test.each(formats)(
  "a bundle (%s) loads the addon that HANDOVER_ADDON names, and no other",
  async (format) => {
    const { file, directory } = bundle(format);
    const elsewhere = join(directory, "elsewhere");
    mkdirSync(elsewhere);
    renameSync(join(directory, "handover.node"), join(elsewhere, "other.node"));
    const start = { command: [process.execPath, file], cwd: directory };

    const without = Service.start("", start);
    expect(await without.exited).toEqual([1, null]);
    await without.ended();
    expect(without.noise).toContain("ERR_NOT_SUPPORTED");
    expect(without.noise).toContain(join(directory, "handover.node"));

    const found = Service.start("", { ...start, env: { HANDOVER_ADDON: "elsewhere/other.node" } });
    await found.upgrade("accepting", { generation: 1 });
    await found.stop();

    const wrong = Service.start("", { ...start, env: { HANDOVER_ADDON: "no/such.node" } });
    await wrong.ended();
    expect(wrong.noise).toContain(`from ${join(directory, "no/such.node")}; `);
  },
);

test("a minified bundle finds the addon in a package that is installed above it", async () => {
  const { file, directory } = bundle("esm", "--minify");
  rmSync(join(directory, "handover.node"));
  const above = join(directory, "node_modules", "handover");
  mkdirSync(join(above, "build", "Release"), { recursive: true });
  copyFileSync("package.json", join(above, "package.json"));
  copyFileSync("build/Release/handover.node", join(above, "build", "Release", "handover.node"));
  const service = Service.start("", { command: [process.execPath, file], cwd: directory });
  expect(await service.upgrade()).toMatchObject({ generation: 1 });
  await service.stop();
});

/** Bundles the program of the page by its commands. Returns a copy of what they made, without the project around it. */
function bundle(format: "esm" | "cjs", ...options: string[]): { file: string; directory: string } {
  const project = mkdtempSync(join(built, "project-"));
  mkdirSync(join(project, "node_modules", ".bin"), { recursive: true });
  for (const name of ["ws", "esbuild", ".bin/esbuild"]) {
    symlinkSync(resolve("node_modules", name), join(project, "node_modules", name));
  }
  for (const name of ["dist", "prebuilds", "package.json"]) {
    cpSync(name, join(project, "node_modules", "handover", name), { recursive: true });
  }
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
  writeFileSync(join(project, "server.js"), asFixture(program));
  const platform = `${process.platform}-${process.arch}`;
  const text = commands[format].replace("linux-x64", platform).replace("--bundle", `$& ${options.join(" ")}`);
  const { status, stderr } = spawnSync("/bin/sh", ["-e", "-c", text], { cwd: project, encoding: "utf8" });
  expect(stderr).not.toMatch(/warning/i);
  expect(status).toBe(0);
  const directory = temporaryDirectory();
  for (const name of readdirSync(join(project, "dist"))) {
    copyFileSync(join(project, "dist", name), join(directory, name));
  }
  return { directory, file: join(directory, `server.${format === "esm" ? "mjs" : "cjs"}`) };
}

/** With a free port, and a line when it accepts. */
function asFixture(text: string): string {
  return text.replace("port: 8080", "port: 0").replace(
    "await upg.ready();",
    `$&
  const fields = { pid: process.pid, generation: upg.generation, port: server.address().port };
  console.log(JSON.stringify({ event: "accepting", ...fields }));`,
  );
}
