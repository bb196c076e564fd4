import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, fstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { native } from "../dist/platform/native.js";
import { brief, Service, temporaryDirectory } from "./support/service.js";

/* What tableflip promises and no other file here states. TABLEFLIP.md has the whole list. */

test("every test of tableflip has its counterpart here", () => {
  const rows = readFileSync(new URL("TABLEFLIP.md", import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| Test"))
    .map((line) => line.split("|").map((cell) => cell.trim()));
  expect(rows).toHaveLength(30);
  for (const [, theirs, file, title] of rows) {
    const source = readFileSync(new URL(file!, import.meta.url), "utf8");
    expect(source.includes(`"${title}"`), `${theirs}: ${file} has no test "${title}"`).toBe(true);
  }
});

function start(settings: object): Service {
  return Service.start("upgrades-itself.js", { settings: { ...brief, ...settings } });
}

describe("an upgrade that fails", () => {
  test.each([
    ["exit", "exited with code 0", { code: 0, signal: null }],
    ["fail", "exited with code 7; its stderr is a pipe", { code: 7, signal: null }],
  ])(
    "an upgrade fails if the successor is to %s before it is ready, and the process keeps serving",
    async (fate, how, cause) => {
      const service = start({ fate });
      const { pid } = await service.until("started", { generation: 1 });
      expect(await service.until("undone")).toMatchObject({
        code: "ERR_CHILD_EXITED",
        message: `the successor (pid ${pid}) ${how}`,
        cause,
        state: "ready",
      });
      expect(service.alive()).toEqual([service.pid]);
    },
  );

  test("an upgrade fails if the successor is killed before it is ready", async () => {
    const service = start({ fate: "hang" });
    const { pid } = await service.until("started", { generation: 1 });
    process.kill(pid, "SIGKILL");
    expect(await service.until("undone")).toMatchObject({
      code: "ERR_CHILD_EXITED",
      message: `the successor (pid ${pid}) was killed by SIGKILL`,
      cause: { code: null, signal: "SIGKILL" },
      state: "ready",
    });
  });

  test("an upgrade fails if the successor is not ready within upgradeTimeout, and the successor is killed", async () => {
    const service = start({ fate: "hang", upgradeTimeout: 400 });
    expect(await service.until("undone")).toMatchObject({
      code: "ERR_UPGRADE_TIMEOUT",
      message: expect.stringMatching(/was not ready within 400 ms, and was killed$/),
      state: "ready",
    });
    expect(service.alive()).toEqual([service.pid]);
  });

  test("an upgrade that was aborted before it begins starts no successor", async () => {
    const service = start({ meanwhile: "aborted before" });
    expect(await service.until("undone")).toMatchObject({ code: "ERR_ABORTED", state: "ready" });
    expect(service.lines.filter(({ event }) => event === "upgrading")).toEqual([]);
  });

  test("an upgrade that is aborted kills the successor", async () => {
    const service = start({ fate: "hang", meanwhile: "abort" });
    expect(await service.until("undone")).toMatchObject({ code: "ERR_ABORTED", state: "ready" });
    expect(service.alive()).toEqual([service.pid]);
  });
});

test("a second upgrade() is refused while the first is in progress, and the first succeeds", async () => {
  const service = start({ meanwhile: "again" });
  expect(await service.until("undone")).toMatchObject({
    what: "second",
    code: "ERR_UPGRADE_IN_PROGRESS",
    message: "cannot upgrade: an upgrade is in progress",
    state: "upgrading",
  });
  expect(await service.until("done")).toMatchObject({ what: "first", of: 1 });
});

test("stop() cancels an upgrade, and refuses every later one", async () => {
  const service = start({ fate: "hang", meanwhile: "stop" });
  expect(await service.until("undone", { what: "first" })).toMatchObject({ code: "ERR_STOPPED" });
  expect(await service.until("undone", { what: "after stop" })).toMatchObject({
    code: "ERR_STOPPED",
    message: "cannot upgrade: this process is stopping",
  });
  await service.ended();
  expect(await service.exited).toEqual([0, null]);
});

test("a successor that is ready replaces the process, and sees its end", async () => {
  const service = start({});
  const { pid } = await service.until("started", { generation: 1 });
  expect(await service.until("done")).toMatchObject({ of: 1, by: pid });
  expect(await service.until("settled")).toMatchObject({ how: "confirmed" });
  await service.until("exited", { generation: 0, outcome: "upgraded" });
  expect(await service.exited).toEqual([0, null]);
  await service.stop();
  expect(service.lines.filter(({ event }) => event === "alone")).toMatchObject([
    { generation: 0 },
    { generation: 1 },
  ]);
});

test("hasParent is false in the first process, and true in its successor", async () => {
  const service = start({});
  expect(await service.until("started", { generation: 0 })).toMatchObject({ hasParent: false });
  expect(await service.until("started", { generation: 1 })).toMatchObject({ hasParent: true });
});

test("waitForParent() resolves at once without a parent, else at its end, and can be aborted", async () => {
  const service = Service.start("waits-for-parent.js", { settings: { probation: 300 } });
  await service.until("parent gone", { generation: 0 });
  process.kill(service.pid, "SIGHUP");
  expect(await service.until("aborted", { generation: 1 })).toMatchObject({
    code: "ERR_ABORTED",
    message: "the wait for the parent was aborted",
    cause: "impatient",
  });
  await service.until("parent gone", { generation: 1 });
  expect(service.lines.findIndex(({ event }) => event === "exited")).toBeLessThan(
    service.lines.findIndex(({ event, generation }) => event === "parent gone" && generation === 1),
  );
});

describe("the PID file", () => {
  test.each(["app.pid", "./app.pid"])(
    "the PID file %s is written at ready(), follows upgrades, and is unlinked at the stop",
    async (name) => {
      const cwd = temporaryDirectory();
      const file = join(cwd, "app.pid");
      const settings = { ...brief, pidFile: name, controlSocket: false };
      const service = Service.start("http.js", { settings, cwd });
      await service.until("listening");
      await service.until("accepting");
      expect(readFileSync(file, "utf8")).toBe(`${service.pid}\n`);
      const { pid } = await service.replace();
      expect(readFileSync(file, "utf8")).toBe(`${pid}\n`);
      expect(readdirSync(cwd)).toEqual(["app.pid"]);
      await service.stop();
      expect(existsSync(file)).toBe(false);
    },
  );
});

describe("garbage from the predecessor", () => {
  const hello = { type: "hello", protocol: 1, capabilities: [], version: "9.9.9", pid: 1, generation: 4 };
  const inventory = { type: "inventory", entries: [], more: false };

  test.each([
    ["instead of its hello", ["\0"], "ERR_PROTOCOL"],
    ["instead of its inventory", [JSON.stringify(hello), "{}"], "ERR_PROTOCOL"],
    ["of another protocol", [JSON.stringify({ ...hello, protocol: 2 })], "ERR_PROTOCOL"],
    [
      "of an inventory without its descriptors",
      [JSON.stringify(hello), JSON.stringify({ ...inventory, entries: [{ name: "a" }] })],
      "ERR_PROTOCOL",
    ],
    ["instead of the commit", [JSON.stringify(hello), JSON.stringify(inventory), "go"], "ERR_PROTOCOL"],
  ])("garbage from the predecessor %s ends the successor with %s", async (_, packets, code) => {
    const { output, ended } = startWithParent(packets);
    expect(await ended).toEqual([1, null]);
    expect(output.text).toContain(`code: '${code}'`);
  });
});

test("a listener stays non-blocking and close-on-exec, in the process and in its successor", async () => {
  const service = Service.start("http.js", { settings: {} });
  const { address } = await service.until("listening");
  await service.until("accepting");
  process.kill(service.pid, "SIGHUP");
  const { pid } = await service.until("accepting", { generation: 1 });
  for (const process of [service.pid, pid]) {
    const flags = listenerFlags(process, (address as { port: number }).port);
    expect(flags.length).toBeGreaterThan(0);
    expect(flags.every((one) => (one & O_NONBLOCK) !== 0)).toBe(true);
    expect(flags.every((one) => (one & O_CLOEXEC) !== 0)).toBe(true);
  }
});

const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;

/** The flags of every descriptor that a process has of the listener on a port. */
function listenerFlags(pid: number, port: number): number[] {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const lines = readFileSync("/proc/net/tcp", "utf8").split("\n");
  const line = lines.find((one) => one.includes(`:${hex} 00000000:0000 0A`))!;
  const link = `socket:[${line.trim().split(/\s+/)[9]}]`;
  return readdirSync(`/proc/${pid}/fd`)
    .filter((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === link)
    .map((fd) => parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8"))![1]!, 8));
}

/** A program that believes to be a successor, and hears these packets. */
function startWithParent(packets: string[]): { output: { text: string }; ended: Promise<unknown[]> } {
  const [own, other] = native().socketpair() as [number, number];
  for (const packet of packets) native().send(own, Buffer.from(packet), []);
  const inode = fstatSync(other, { bigint: true }).ino;
  const fixture = fileURLToPath(new URL("fixtures/upgrades-itself.js", import.meta.url));
  const child = spawn(process.execPath, [fixture], {
    env: { ...process.env, HANDOVER_CHANNEL: `3:${inode}` },
    stdio: ["ignore", "ignore", "pipe", other],
  });
  native().close(other);
  onTestFinished(() => {
    native().close(own);
    child.kill("SIGKILL");
  });
  const output = { text: "" };
  child.stderr!.setEncoding("utf8").on("data", (chunk: string) => (output.text += chunk));
  return { output, ended: once(child, "close") };
}
