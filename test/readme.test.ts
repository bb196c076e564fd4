import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { Service, temporaryDirectory } from "./support/service.js";

const readme = readFileSync("README.md", "utf8");
const programs = [...readme.matchAll(/^```js\n([^]*?)^```/gm)].map(([, text]) => text!);

test("the README's program is upgraded with the README's commands", async () => {
  const directory = project();
  const pidFile = join(directory, "app.pid");
  // As printed, but for what other programs on this machine might use, and for a line that says when to go on.
  const accepting = `console.log(JSON.stringify({ event: "accepting", pid: process.pid }));\n`;
  const program = programs[0]!.replace("/tmp/app.pid", pidFile).replace("8080", "0");
  writeFileSync(join(directory, "server.js"), program.replace("await upg.exit;", `${accepting}$&`));
  const service = Service.start("", { command: [process.execPath, "server.js"], cwd: directory });

  await service.until("accepting");
  expect(await answer(directory, pidFile)).toBe(`hello from ${service.pid}\n`);
  await handover(directory, "upgrade", "--pid-file", pidFile);
  const pid = Number(readFileSync(pidFile, "utf8"));
  expect(pid).not.toBe(service.pid);
  expect(await answer(directory, pidFile)).toBe(`hello from ${pid}\n`);
  process.kill(pid, "SIGTERM");
  await service.ended();
  expect(service.noise).toBe("");
});

test.each(programs.map((text) => [text.split("\n")[0], text]))(
  "the README's %s can be parsed",
  async (_, text) => {
    const file = join(project(), "program.js");
    writeFileSync(file, text);
    const { stderr } = await promisify(execFile)(process.execPath, ["--check", file]);
    expect(stderr).toBe("");
  },
);

/** An empty project that has handover installed. */
function project(): string {
  const directory = temporaryDirectory();
  mkdirSync(join(directory, "node_modules"));
  symlinkSync(resolve("."), join(directory, "node_modules", "handover"));
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  return directory;
}

async function handover(directory: string, ...args: string[]): Promise<string> {
  const program = join(directory, "node_modules", "handover", "bin", "handover.js");
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args]);
  return stdout;
}

/** Of the process that serves. */
async function answer(directory: string, pidFile: string): Promise<string> {
  const status = JSON.parse(await handover(directory, "status", "--pid-file", pidFile, "--json")) as {
    listeners: { address: string }[];
  };
  const port = status.listeners.map(({ address }) => /:(\d+)$/.exec(address)?.[1]).find(Boolean);
  return (await fetch(`http://127.0.0.1:${port}`)).text();
}
