import { readdirSync, readFileSync, writeFileSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Crowd } from "../support/crowd.js";
import { belongings, finish, startWithClient } from "../support/faults.js";
import { temporaryDirectory } from "../support/service.js";

test.each(["start", "initialized"])(
  "a predecessor that is killed while its successor is at the phase %s leaves the service to it",
  async (phase) => {
    const running = await startWithClient("pauses-at-phases.js", { pause: [phase] });
    const { service, client } = running;
    const { pid: successor } = await service.upgrade("paused");
    client.destroy();
    process.kill(service.pid, "SIGKILL");
    expect(await service.exited).toEqual([null, "SIGKILL"]);
    const waiting = service.ask();
    process.kill(successor, "SIGUSR2");
    expect(await waiting).toBe(String(successor));
    await service.until("alone", { pid: successor });
    expect(service.alive()).toEqual([successor]);
    await finish(running, successor);
  },
);

test("a predecessor that is killed after its successor has announced itself leaves the service to it", async () => {
  const directory = temporaryDirectory();
  const running = await startWithClient("pauses-at-phases.js", {
    pause: ["initialized"],
    pidFile: join(directory, "pid"),
  });
  const { service } = running;
  const { pid: successor } = await service.upgrade("paused");
  process.kill(service.pid, "SIGSTOP");
  process.kill(successor, "SIGUSR2");
  await service.until("announced", { pid: successor });
  process.kill(service.pid, "SIGKILL");
  await service.until("accepting", { pid: successor });
  expect(readFileSync(join(directory, "pid"), "utf8")).toBe(`${successor}\n`);
  expect(readdirSync(directory).toSorted()).toEqual(["pid", "pid.sock"]);
  await finish(running, successor);
  expect(readdirSync(directory)).toEqual([]);
});

test.each(["upgrading", "upgraded", "draining"])(
  "a predecessor that is killed when it emits `%s` leaves the service to its successor",
  async (die) => {
    const running = await startWithClient("pauses-at-phases.js", { die });
    const { service } = running;
    const { pid: successor } = await service.upgrade("accepting");
    expect(await service.exited).toEqual([null, "SIGKILL"]);
    await service.until("alone", { pid: successor });
    await finish(running, successor);
  },
);

test.each([
  ["while its successor is on probation", { probation: 20_000 }],
  ["while it drains", { probation: 1 }],
])("a predecessor that is killed %s leaves the service to its successor", async (_, settings) => {
  const running = await startWithClient("pauses-at-phases.js", settings);
  const { service } = running;
  const lost = service.ask("/hold").catch((error: Error) => error.message);
  await service.until("holding");
  const { pid: successor } = await service.upgrade("accepting");
  process.kill(service.pid, "SIGKILL");
  expect(await lost).toBe("socket hang up");
  await service.until("alone", { pid: successor });
  // Nobody can take over again any more: it is off probation.
  const third = await service.upgrade();
  expect(third.generation).toBe(2);
  expect(await service.ask()).toBe(String(third.pid));
});

test.each(["start", "initialized"])(
  "a successor that is killed at the phase %s changes nothing",
  async (phase) => {
    const running = await startWithClient("pauses-at-phases.js", { pause: [phase] });
    const { service } = running;
    const crowd = new Crowd(running.service);
    process.kill((await service.upgrade("paused")).pid, "SIGKILL");
    await service.until("failed", { code: "ERR_CHILD_EXITED" });
    await crowd.answered(20);
    await crowd.leave();
    expect(crowd.failures).toEqual([]);
    expect([...crowd.answers.keys()]).toEqual([service.pid]);
    expect(service.alive()).toEqual([service.pid]);
    await finish(running);
  },
);

test("a successor that is killed after it has announced itself leaves nothing behind", async () => {
  const directory = temporaryDirectory();
  const pidFile = join(directory, "pid");
  const running = await startWithClient("pauses-at-phases.js", { pause: ["initialized"], pidFile });
  const { service, client } = running;
  const before = belongings(service.pid, directory);
  const { pid: successor } = await service.upgrade("paused");
  process.kill(service.pid, "SIGSTOP");
  process.kill(successor, "SIGUSR2");
  await service.until("announced", { pid: successor });
  process.kill(successor, "SIGKILL");
  process.kill(service.pid, "SIGCONT");
  const { code } = await Promise.race([
    service.until("failed", { pid: service.pid }),
    service.until("rollback"),
  ]);
  expect(code).toBe("ERR_CHILD_EXITED");
  expect(belongings(service.pid, directory)).toEqual(before);
  expect(readFileSync(pidFile, "utf8")).toBe(`${service.pid}\n`);
  expect(await service.ask("/", client)).toBe(String(service.pid));
  await finish(running);
  expect(readdirSync(directory)).toEqual([]);
});

test("a successor that is killed on probation is rolled back, and no client notices", async () => {
  const directory = temporaryDirectory();
  const pidFile = join(directory, "pid");
  const running = await startWithClient("pauses-at-phases.js", { probation: 20_000, pidFile });
  const { service, client } = running;
  // Idle, it would move to the successor, and die with it.
  const held = service.ask("/hold", client);
  await service.until("holding");
  const before = belongings(service.pid, directory);

  const { pid: successor } = await service.upgrade("accepting");
  expect(readFileSync(pidFile, "utf8")).toBe(`${successor}\n`);
  expect(await service.ask()).toBe(String(successor));
  process.kill(successor, "SIGKILL");
  const rollback = await service.until("rollback");
  expect(rollback).toMatchObject({ code: "ERR_CHILD_EXITED" });
  expect(rollback["message"]).toBe(`the successor (pid ${successor}) was killed by SIGKILL`);
  expect(readFileSync(pidFile, "utf8")).toBe(`${service.pid}\n`);
  expect(belongings(service.pid, directory)).toEqual(before);
  expect(service.alive()).toEqual([service.pid]);

  process.kill(service.pid, "SIGUSR2");
  expect(await held).toBe(String(service.pid));
  expect(await service.ask("/", client)).toBe(String(service.pid));
  await finish(running);
  const listening = service.lines.filter(
    (line) => line.event === "emitted listening" && line.pid === service.pid,
  );
  expect(listening).toHaveLength(1);
  expect(service.lines.filter((line) => line.event === "exited" && line.pid === service.pid)).toHaveLength(1);
  expect(readdirSync(directory)).toEqual([]);
});

test("an upgrade succeeds after two rollbacks in a row", async () => {
  const directory = temporaryDirectory();
  const bug = join(directory, "bug");
  writeFileSync(bug, "");
  const pidFile = join(directory, "pid");
  const running = await startWithClient("pauses-at-phases.js", {
    probation: 3_000,
    pidFile,
    die: "accepting",
    dieWhile: bug,
  });
  const { service, client } = running;
  // Idle, it would move to the successor, and die with it.
  const held = service.ask("/hold", client);
  await service.until("holding");
  const before = belongings(service.pid, directory);
  for (let time = 0; time < 2; time++) {
    await service.upgrade("rollback");
    expect(belongings(service.pid, directory)).toEqual(before);
    expect(readFileSync(pidFile, "utf8")).toBe(`${service.pid}\n`);
    expect(await service.ask()).toBe(String(service.pid));
  }
  process.kill(service.pid, "SIGUSR2");
  expect(await held).toBe(String(service.pid));
  unlinkSync(bug);
  const { pid: successor } = await service.upgrade("accepting");
  await service.until("exited", { generation: 0, outcome: "upgraded" });
  await service.exited;
  expect(service.alive()).toEqual([successor]);
  expect(readFileSync(pidFile, "utf8")).toBe(`${successor}\n`);
  await finish(running, successor);
  expect(readdirSync(directory)).toEqual([]);
});

test("a predecessor that was blocked until the end of probation still sees that its successor died on it", async () => {
  const running = await startWithClient("blocked-loop.js");
  const { pid: successor } = await running.service.upgrade("rollback");
  expect(successor).not.toBe(running.service.pid);
  expect(running.service.alive()).toEqual([running.service.pid]);
  await finish(running);
});

test("twenty upgrades leave no descriptor, file or process behind", async () => {
  const directory = temporaryDirectory();
  const pidFile = join(directory, "pid");
  const running = await startWithClient("pauses-at-phases.js", { probation: 1, pidFile });
  const { service, client } = running;
  client.destroy();
  let pid = (await service.upgrade()).pid;
  await service.until("alone", { pid });
  const before = belongings(pid, directory);
  for (let generation = 2; generation <= 20; generation++) {
    pid = (await service.upgrade()).pid;
    await service.until("alone", { pid });
  }
  expect(belongings(pid, directory)).toEqual(before);
  expect(service.alive()).toEqual([pid]);
  await finish(running, pid);
  expect(readdirSync(directory)).toEqual([]);
  expect(service.noise).toBe("");
});
