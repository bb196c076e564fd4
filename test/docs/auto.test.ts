import { spawn } from "node:child_process";
import { expect, onTestFinished, test } from "vitest";
import { OPTION_VARIABLES } from "../../dist/auto/options.js";
import { autoOption } from "../../dist/supervisor/auto-option.js";
import { project } from "../support/documented.js";
import { Page } from "../support/page.js";
import { freePort } from "../support/port.js";
import { startHandover } from "../support/program.js";
import { Sandbox, UNTIL_SERVED } from "../support/sandbox.js";
import { ask, Service } from "../support/service.js";

const page = Page.open("auto");
const [quick, ofShell, ofWorkers] = page.blocks("sh");
const server = page.block("js", "// server.js");
const manual = page.block("js", "// manual.js");

test("docs/auto.md has a row for every variable of an option", () => {
  const rows = [...page.text.matchAll(/^\| `(HANDOVER_\w+)`/gm)].map(([, name]) => name!);
  expect(rows.toSorted()).toEqual([...OPTION_VARIABLES, "HANDOVER_READY"].toSorted());
});

test.each([
  ["the program", server, {}],
  ["the program that calls ready()", manual, { HANDOVER_READY: "manual" }],
])("%s of docs/auto.md is upgraded", async (_, text, env) => {
  const port = await freePort();
  const directory = project({ "server.js": text.replace("8080", String(port)) });
  const command = [process.execPath, autoOption(), "server.js"];
  const service = Service.start("", { command, cwd: directory, env: { ...env, HANDOVER_PROBATION: "50" } });
  await expect.poll(async () => ask(port).catch(() => "")).toBe(`hello from ${service.pid}\n`);
  const { code } = await startHandover(["upgrade", service.pid], {}).ended;
  expect(code).toBe(0);
  expect(await ask(port)).toMatch(/^hello from \d+\n$/);
  expect(await ask(port)).not.toBe(`hello from ${service.pid}\n`);
});

test("the program of docs/auto.md that calls ready() runs without handover/auto", async () => {
  const port = await freePort();
  const directory = project({ "server.js": manual.replace("8080", String(port)) });
  const child = spawn(process.execPath, ["server.js"], { cwd: directory });
  onTestFinished(() => void child.kill());
  await expect.poll(async () => ask(port).catch(() => "")).toBe(`hello from ${child.pid}\n`);
});

test("docs/auto.md names handover run --auto with a program of a package", () => {
  expect(ofWorkers).toMatch(/^handover run --auto --workers \d -- next start\n$/);
});

test.skipIf(Sandbox.missing)(`the commands of docs/auto.md upgrade its program${Sandbox.why}`, async () => {
  const sandbox = await Sandbox.start({ npx: '#!/bin/sh\nexec "$@"\n' });
  await sandbox.write("/srv/package.json", '{ "type": "module" }');
  await sandbox.write("/srv/server.js", server);
  const [install, start, upgrade] = quick!.trim().split("\n");
  expect(install).toBe("npm install handover");
  await sandbox.run(`${start!.replace(" &", "")} >/srv/log 2>&1 & ${UNTIL_SERVED}`, { env: RUNTIME });
  const { stdout: before } = await sandbox.run("curl --silent localhost:8080");
  expect(await sandbox.run(upgrade!, { env: RUNTIME })).toMatchObject({ code: 0, stderr: "" });
  const { stdout: after } = await sandbox.run("curl --silent localhost:8080");
  expect([before, after]).toEqual([expect.stringMatching(/^hello/), expect.stringMatching(/^hello/)]);
  expect(after).not.toBe(before);
  const { stdout: options } = await sandbox.run(`${ofShell}node --print process.env.NODE_OPTIONS`);
  expect(options).toMatch(/^--import=file:\/\/\/.*auto\.js\n$/);
});

const RUNTIME = { XDG_RUNTIME_DIR: "/run" };
