import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { WebSocket } from "ws";
import { Service, temporaryDirectory } from "./support/service.js";

const readme = readFileSync("README.md", "utf8");
const programs = [...readme.matchAll(/^```js\n([^]*?)^```/gm)].map(([, text]) => text!);
const [first, webSocket, state, counter] = programs.filter((text) => text.includes("await upg.exit"));

test("the README's program is upgraded with the README's commands", async () => {
  const running = await start(first!);
  const answer = async (): Promise<string> => (await fetch(`http://127.0.0.1:${running.port}`)).text();
  expect(await answer()).toBe(`hello from ${running.service.pid}\n`);
  const pid = await upgrade(running);
  expect(await answer()).toBe(`hello from ${pid}\n`);
  await stop(running, pid);
});

test("the README's WebSockets move", async () => {
  const running = await start(webSocket!);
  const client = new WebSocket(`ws://127.0.0.1:${running.port}`);
  const next = async (): Promise<string> => String(((await once(client, "message")) as [Buffer])[0]);
  expect(await next()).toBe("welcome");
  client.send("a");
  expect(await next()).toBe("message 1, generation 0");
  const pid = await upgrade(running);
  client.send("b");
  expect(await next()).toBe("message 2, generation 1");
  client.close();
  await once(client, "close");
  await stop(running, pid);
});

test("the README's state moves", async () => {
  const running = await start(state!);
  const ask = async (): Promise<{ visits: number; steps: number; isLeader: boolean }> =>
    (await fetch(`http://127.0.0.1:${running.port}`)).json() as never;
  const before = await ask();
  expect(before).toEqual({ visits: 1, steps: expect.any(Number) as number, isLeader: true });
  const pid = await upgrade(running);
  const after = await ask();
  expect(after).toEqual({ visits: 2, steps: expect.any(Number) as number, isLeader: true });
  expect(after.steps).toBeGreaterThan(before.steps);
  await stop(running, pid);
});

test("the README's own protocol moves", async () => {
  const running = await start(counter!);
  const client = connect(running.port, "127.0.0.1");
  const next = async (): Promise<string> => String(((await once(client, "data")) as [Buffer])[0]);
  client.write("abc");
  expect(await next()).toBe("3 bytes\n");
  const pid = await upgrade(running);
  client.write("de");
  expect(await next()).toBe("5 bytes\n");
  client.end();
  await stop(running, pid);
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

interface Running {
  service: Service;
  directory: string;
  pidFile: string;
  port: number;
}

/** As printed, but for what other programs on this machine might use, and for a line that says when to go on. */
async function start(program: string): Promise<Running> {
  const directory = project();
  const pidFile = join(directory, "app.pid");
  const text = program
    .replace(/\/tmp\/\w+\.pid/, pidFile)
    .replace(/port: \d+/, "port: 0")
    .replace("await upg.exit;", `console.log(JSON.stringify({ event: "accepting", pid: process.pid }));\n$&`);
  writeFileSync(join(directory, "server.js"), text);
  const service = Service.start("", { command: [process.execPath, "server.js"], cwd: directory });
  await service.until("accepting");
  const status = JSON.parse(await handover(directory, "status", "--pid-file", pidFile, "--json")) as {
    listeners: { address: string }[];
  };
  const port = status.listeners.map(({ address }) => /:(\d+)$/.exec(address)?.[1]).find(Boolean);
  return { service, directory, pidFile, port: Number(port) };
}

/** With the README's command; the PID of the process that serves then. */
async function upgrade({ service, directory, pidFile }: Running): Promise<number> {
  await handover(directory, "upgrade", "--pid-file", pidFile);
  const pid = Number(readFileSync(pidFile, "utf8"));
  expect(pid).not.toBe(service.pid);
  return pid;
}

async function stop({ service }: Running, pid: number): Promise<void> {
  process.kill(pid, "SIGTERM");
  await service.ended();
  expect(service.noise).toBe("");
}

/** An empty project that has handover installed, and ws. */
function project(): string {
  const directory = temporaryDirectory();
  mkdirSync(join(directory, "node_modules"));
  symlinkSync(resolve("."), join(directory, "node_modules", "handover"));
  symlinkSync(resolve("node_modules/ws"), join(directory, "node_modules", "ws"));
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  return directory;
}

async function handover(directory: string, ...args: string[]): Promise<string> {
  const program = join(directory, "node_modules", "handover", "bin", "handover.js");
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args]);
  return stdout;
}
