import { readdirSync, rmdirSync, symlinkSync, unlinkSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Crowd } from "../support/crowd.js";
import { failUpgrade, finish, fixturePath, startWithClient, words } from "../support/faults.js";
import { Service, temporaryDirectory } from "../support/service.js";

/** What befalls a successor, and what its parent says of it. */
const misfortunes: [name: string, code: string, message: RegExp][] = [
  ["exits with 0", "ERR_CHILD_EXITED", /exited with code 0$/],
  ["exits with 1", "ERR_CHILD_EXITED", /exited with code 1; its stderr is a pipe$/],
  ["throws", "ERR_CHILD_EXITED", /exited with code 1; its last uncaught error: Error: no database \(at /],
  ["is killed", "ERR_CHILD_EXITED", /was killed by SIGSEGV; its stderr is a pipe$/],
  ["never gets ready", "ERR_UPGRADE_TIMEOUT", /was not ready within 1000 ms, and was killed$/],
  ["blocks its event loop", "ERR_UPGRADE_TIMEOUT", /was not ready within 1000 ms, and was killed$/],
  ["prints garbage", "ERR_PROTOCOL", /cannot understand a message of the other process: not JSON/],
  ["stops itself", "ERR_CHILD_EXITED", /exited with code 0$/],
];

test.each(misfortunes)("a successor that %s changes nothing", async (successor, code, message) => {
  const directory = temporaryDirectory();
  const slow = code === "ERR_UPGRADE_TIMEOUT" ? { upgradeTimeout: 1_000 } : {};
  const running = await startWithClient("fails-before-ready.js", {
    successor,
    pidFile: join(directory, "pid"),
    ...slow,
  });
  for (let time = 0; time < 2; time++) {
    const failed = await failUpgrade(running, directory);
    expect(failed["code"]).toBe(code);
    expect(failed["message"]).toMatch(message);
  }
  await finish(running);
  expect(readdirSync(directory)).toEqual([]);
});

test("a successor that listens and crashes before it is ready swallows no connection", async () => {
  const running = await startWithClient("fails-before-ready.js", { successor: "exits with 1" });
  const { service } = running;
  const crowd = new Crowd(service);
  for (let time = 0; time < 5; time++) {
    const from = service.lines.length;
    process.kill(service.pid, "SIGHUP");
    await service.until("failed", {}, from);
  }
  await crowd.answered(50);
  await crowd.leave();
  expect(crowd.failures).toEqual([]);
  expect([...crowd.answers.keys()]).toEqual([service.pid]);
  expect(service.lines.filter(({ event, pid }) => event === "listening" && pid !== service.pid)).toHaveLength(
    5,
  );
  await finish(running);
});

test("ready() may be called several times", async () => {
  const running = await startWithClient("calls-ready-twice.js", { probation: 50 });
  const { service } = running;
  const successor = await service.upgrade();
  await service.exited;
  expect(service.lines.filter(({ event }) => event === "ready")).toHaveLength(2);
  await finish(running, successor.pid);
});

const HELLO = { type: "hello", protocol: 1, capabilities: [], version: "9.9.9", pid: 1, generation: 1 };

/** What it does to its channel, one after the other. */
const text = (packet: object): unknown[] => ["text", JSON.stringify(packet)];

const strangers: [name: string, says: unknown[][], code: string, message: RegExp][] = [
  [
    "speaks another protocol",
    [text({ ...HELLO, protocol: 7 })],
    "ERR_PROTOCOL",
    /handover 9\.9\.9\) speaks protocol 7, this one 1$/,
  ],
  ["is ready without a hello", [text({ type: "ready", used: [] })], "ERR_PROTOCOL", /did not say hello$/],
  ["sends an unknown message", [text(HELLO), text({ type: "surprise" })], "ERR_UPGRADE_TIMEOUT", /not ready/],
  ["says nothing", [], "ERR_UPGRADE_TIMEOUT", /not ready/],
  ["sends too much", [text(HELLO), ["fill", 150_000]], "ERR_PROTOCOL", /longer than 131072 bytes$/],
  ["closes its channel", [["close"]], "ERR_PROTOCOL", /closed its channel, but kept running$/],
  ["says hello and closes its channel", [text(HELLO), ["close"]], "ERR_PROTOCOL", /but kept running$/],
];

test.each(strangers)("a successor that %s changes nothing", async (_, says, code, message) => {
  const settings = code === "ERR_UPGRADE_TIMEOUT" ? { upgradeTimeout: 500 } : {};
  const running = await startWithClient("foreign-successor.js", settings, {
    env: { SAYS: JSON.stringify(says) },
  });
  const failed = await failUpgrade(running);
  expect(failed["code"]).toBe(code);
  expect(failed["message"]).toMatch(message);
  await finish(running);
});

test("a successor whose script is missing exits, and takes over when the script is back", async () => {
  const directory = temporaryDirectory();
  const script = join(directory, "server.js");
  symlinkSync(fixturePath("http.js"), script);
  const running = await startWithClient("", {}, { command: [process.execPath, script] });
  unlinkSync(script);
  const failed = await failUpgrade(running);
  expect(failed).toMatchObject({ code: "ERR_CHILD_EXITED" });
  expect(running.service.noise).toMatch(/Cannot find module/);
  symlinkSync(fixturePath("http.js"), script);
  expect((await running.service.upgrade()).generation).toBe(1);
});

test("a successor whose node is missing cannot be started, and takes over when node is back", async () => {
  const directory = temporaryDirectory();
  const node = join(directory, "node");
  symlinkSync(process.execPath, node);
  const running = await startWithClient("", {}, { command: [node, ...words("http.js").slice(1)] });
  unlinkSync(node);
  const failed = await failUpgrade(running);
  expect(failed["code"]).toBe("ERR_SPAWN");
  expect(failed["message"]).toMatch(/^cannot start a successor, .*http\.js.* in .*: spawn .* ENOENT$/);
  symlinkSync(process.execPath, node);
  expect((await running.service.upgrade()).generation).toBe(1);
});

test("a successor whose working directory is missing cannot be started, and takes over when the directory is back", async () => {
  const cwd = join(temporaryDirectory(), "release");
  mkdirSync(cwd);
  const running = await startWithClient("http.js", {}, { cwd });
  rmdirSync(cwd);
  const failed = await failUpgrade(running);
  expect(failed["code"]).toBe("ERR_SPAWN");
  expect(failed["message"]).toBe(`cannot start a successor in ${cwd}: there is no such directory`);
  mkdirSync(cwd);
  expect((await running.service.upgrade()).generation).toBe(1);
});

test.each([false, undefined])(
  "a process whose PID file is in a missing directory does not start (control socket: %s)",
  async (control) => {
    const pidFile = join(temporaryDirectory(), "missing", "app.pid");
    const service = Service.start("http.js", { settings: { pidFile, controlSocket: control } });
    await service.ended();
    expect(await service.exited).toEqual([1, null]);
    expect(service.noise).toMatch(/ERR_PID_FILE/);
    expect(service.noise).toContain(`cannot write the PID file ${pidFile}: ENOENT`);
  },
);

test("a successor whose PID file is in a missing directory fails before it is ready", async () => {
  const directory = join(temporaryDirectory(), "run");
  mkdirSync(directory);
  const settings = { pidFile: join(directory, "app.pid"), controlSocket: false };
  const running = await startWithClient("http.js", settings);
  unlinkSync(settings.pidFile);
  rmdirSync(directory);
  const failed = await failUpgrade(running);
  expect(failed["code"]).toBe("ERR_CHILD_EXITED");
  expect(running.service.noise).toMatch(/ERR_PID_FILE/);
  mkdirSync(directory);
  const successor = await running.service.upgrade();
  expect(readdirSync(directory)).toContain("app.pid");
  await finish(running, successor.pid);
  expect(readdirSync(directory)).toEqual([]);
});

const parents: [name: string, settings: object, said: RegExp][] = [
  [
    "that speaks another protocol",
    { says: [{ ...HELLO, protocol: 7 }] },
    /handover 9\.9\.9\) speaks protocol 7, this one 1/,
  ],
  [
    "that says no hello",
    { says: [{ type: "confirmed" }] },
    /cannot take over: the predecessor did not say hello/,
  ],
  ["that says nothing", { says: [], upgradeTimeout: 100 }, /ERR_UPGRADE_TIMEOUT/],
  [
    "that says half of it",
    { says: [HELLO, { type: "inventory", entries: [], more: true }], upgradeTimeout: 100 },
    /cannot read the inheritance: the predecessor sent nothing in time/,
  ],
  [
    "that sends names without descriptors",
    { says: [HELLO, { type: "inventory", entries: [{ name: "x" }], more: false }] },
    /cannot take over: the predecessor sent inventory, not its inventory/,
  ],
  [
    "that never sends the commit",
    { says: [HELLO, { type: "inventory", entries: [], more: false }], upgradeTimeout: 100 },
    /cannot get ready: timed out after 100 ms waiting for pid 1 to hand over/,
  ],
];

test.each(parents)("a successor of a predecessor %s exits, and says why", async (_, settings, said) => {
  const service = Service.start("false-predecessor.js", { settings });
  expect(await service.until("child ended")).toMatchObject({ code: 1, signal: null });
  await service.untilNoise(said);
  await service.ended();
});

test("a successor whose predecessor died during the inventory serves on its own", async () => {
  const says = [HELLO, { type: "inventory", entries: [], more: true }];
  const service = Service.start("false-predecessor.js", { settings: { says, gone: true } });
  expect((await service.until("accepting")).generation).toBe(2);
});

test("a process does not trust a channel whose inode is not the one in its environment", async () => {
  const service = Service.start("false-predecessor.js", { settings: { says: [HELLO], inode: 1 } });
  expect((await service.until("accepting")).generation).toBe(0);
  expect(await service.untilNoise(/HANDOVER_NO_PARENT.*/)).toMatch(/descriptor 3 is something else$/);
});

test("ready() that fails after the commit leaves no file beside the PID file, however often", async () => {
  const pidFile = join(temporaryDirectory(), "pid");
  const service = Service.start("ready-fails-twice.js", { settings: { pidFile } });
  for (const call of ["first", "second"]) {
    expect(await service.until(call)).toMatchObject({ code: "ERR_ROLE", files: ["pid", "pid.sock"] });
  }
});

test("a successor to which the commit cannot be sent is killed, and its predecessor acquires the roles again", async () => {
  const service = Service.start("commit-too-large.js");
  await service.until("accepting");
  const from = service.lines.length;
  process.kill(service.pid, "SIGHUP");
  const failed = await service.until("failed");
  expect(failed).toMatchObject({
    code: "ERR_PROTOCOL",
    message: expect.stringMatching(/^cannot send commit: /),
  });
  expect(service.alive()).toEqual([service.pid]);
  const roles = service.lines.slice(from).filter(({ event }) => /^(acquired|released)$/.test(event));
  expect(roles.map(({ pid, event }) => [pid, event])).toEqual([
    [service.pid, "released"],
    [service.pid, "acquired"],
  ]);
});
