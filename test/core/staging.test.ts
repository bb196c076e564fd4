import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { UpgraderEvents } from "../../dist/events.js";
import type { Env } from "../../dist/process/env.js";
import type { UpgraderOptions } from "../../dist/options.js";
import { PEER, Stage, successorOf, until } from "../support/fake-env.js";

/** A process that accepts, without a predecessor; and why its staged successors were thrown away. */
async function ready(
  options: UpgraderOptions = {},
  env: Partial<Env> = {},
): Promise<{ stage: Stage; reasons: string[] }> {
  const stage = new Stage(options, env);
  const reasons: string[] = [];
  stage.emitter.on("unstaged", ({ reason }) => reasons.push(reason));
  await stage.generation.ready();
  return { stage, reasons };
}

/** Stages a successor. */
async function hold(stage: Stage, ttl?: number): Promise<UpgraderEvents["staged"][0]> {
  const { length } = stage.successors;
  const staging = stage.generation.stage(ttl);
  await until(() => stage.successors.length > length, "a successor");
  stage.successor.readyToBeStaged();
  return staging;
}

/** Upgrades with a successor that has to be started first. */
async function upgradeAfresh(stage: Stage): Promise<boolean> {
  const { length } = stage.successors;
  const upgrade = stage.generation.upgrade(undefined);
  await until(() => stage.successors.length > length, "a successor");
  stage.successor.ready();
  return (await upgrade).staged;
}

test("stage() starts a successor, holds it, and the next upgrade() commits it without another start", async () => {
  const { stage, reasons } = await ready();
  const before = Date.now();
  const staged = await hold(stage, 5_000);
  expect(staged).toMatchObject({ pid: PEER, generation: 1 });
  expect(staged.expires).toBeGreaterThanOrEqual(before + 5_000);
  expect(stage.state).toBe("ready");
  expect((await stage.generation.status()).staged).toEqual(staged);
  const { settled: _, ...result } = await stage.generation.upgrade(undefined);
  expect(result).toMatchObject({ pid: PEER, generation: 1, staged: true, timings: { spawn: 0 } });
  await stage.successor.receives("commit");
  expect(stage.spawns).toBe(1);
  expect(stage.events).toEqual(["ready", "upgrading", "staged", "upgrading", "upgraded", "draining"]);
  expect(reasons).toEqual([]);
});

test("stage() resolves with the successor that is staged already", async () => {
  const { stage } = await ready();
  const staged = await hold(stage);
  expect(await stage.generation.stage()).toEqual(staged);
  expect(stage.spawns).toBe(1);
});

test("stage() is refused as an upgrade is", async () => {
  const starting = new Stage();
  await expect(starting.generation.stage()).rejects.toMatchObject({ code: "ERR_NOT_READY" });
  const { stage } = await ready();
  const { upgrade } = await stage.startUpgrade();
  await expect(stage.generation.stage()).rejects.toMatchObject({ code: "ERR_UPGRADE_IN_PROGRESS" });
  stage.successor.ready();
  await upgrade;
  await expect(stage.generation.stage()).rejects.toMatchObject({ code: "ERR_ALREADY_UPGRADED" });
});

test("upgrade() is refused while a successor is being staged", async () => {
  const { stage } = await ready();
  const staging = stage.generation.stage();
  await until(() => stage.successors.length === 1, "a successor");
  await expect(stage.generation.upgrade(undefined)).rejects.toMatchObject({
    code: "ERR_UPGRADE_IN_PROGRESS",
  });
  stage.successor.readyToBeStaged();
  await staging;
});

test("stage() rejects with ERR_NOT_SUPPORTED if the new code has a version of handover that cannot wait", async () => {
  const { stage } = await ready();
  const staging = stage.generation.stage();
  await until(() => stage.successors.length === 1, "a successor");
  stage.successor.ready();
  await expect(staging).rejects.toMatchObject({ code: "ERR_NOT_SUPPORTED" });
  expect(stage.successor.isKilled).toBe(true);
  expect(stage.state).toBe("ready");
});

test("a staged successor exits when its time is over, and the next upgrade starts another one", async () => {
  const { stage, reasons } = await ready();
  await hold(stage, 5_000);
  stage.clock.advance(5_000);
  await stage.successor.receives("rehearsed");
  expect(reasons).toEqual(["its time of 5000 ms is over"]);
  expect((await stage.generation.status()).staged).toBeUndefined();
  expect(await upgradeAfresh(stage)).toBe(false);
  expect(stage.spawns).toBe(2);
});

test("a staged successor that dies is gone quietly, and the next upgrade starts another one", async () => {
  const { stage, reasons } = await ready();
  await hold(stage);
  stage.successor.exit(7);
  await until(() => reasons.length === 1, "the event unstaged");
  expect(reasons).toEqual([expect.stringContaining(`the successor (pid ${PEER}) exited with code 7`)]);
  expect(await upgradeAfresh(stage)).toBe(false);
  expect(stage.events).not.toContain("failed");
});

test("an upgrade throws a staged successor away that does not answer, and starts another one", async () => {
  const { stage, reasons } = await ready();
  await hold(stage);
  const [blocked] = stage.successors;
  blocked!.isBlocked = true;
  const upgrade = stage.generation.upgrade(undefined);
  await until(() => blocked!.types.filter((type) => type === "stage").length === 2, "the question");
  stage.clock.advance(1_000);
  await until(() => reasons.length === 1, "the event unstaged");
  expect(reasons).toEqual([`the successor (pid ${PEER}) did not answer`]);
  stage.clock.advance(1_000);
  await until(() => stage.successors.length === 2, "another successor");
  expect(blocked!.isKilled).toBe(true);
  stage.successor.ready();
  expect(await upgrade).toMatchObject({ staged: false });
});

test("an upgrade uses a staged successor only if the command and the environment are the same", async () => {
  let version = "1";
  const { stage, reasons } = await ready({
    spawn: () => ({ args: ["server.js"], env: { VERSION: version } }),
  });
  await hold(stage);
  version = "2";
  expect(await upgradeAfresh(stage)).toBe(false);
  expect(reasons).toEqual(["the environment of the successor has changed"]);
});

test("an upgrade uses a staged successor only if the release behind a symlink is the same", async () => {
  const directory = mkdtempSync(join(tmpdir(), "handover-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const current = join(directory, "current.js");
  for (const name of ["one.js", "two.js"]) writeFileSync(join(directory, name), "");
  symlinkSync("one.js", current);
  const { stage, reasons } = await ready({ spawn: { args: [current] } });
  await hold(stage);
  rmSync(current);
  symlinkSync("two.js", current);
  expect(await upgradeAfresh(stage)).toBe(false);
  expect(reasons).toEqual([`${current} has changed`]);
});

test("an upgrade throws a staged successor away whose command can no longer be told", async () => {
  let isBroken = false;
  const spawn = (): object => {
    if (isBroken) throw new Error("no such release");
    return {};
  };
  const { stage, reasons } = await ready({ spawn });
  await hold(stage);
  isBroken = true;
  await expect(stage.generation.upgrade(undefined)).rejects.toMatchObject({
    cause: { message: "no such release" },
  });
  expect(reasons).toEqual(['cannot start a successor: the option "spawn" threw: no such release']);
  await stage.reaches("ready");
});

test("a staged successor is thrown away when a listener is opened, and the next one inherits it", async () => {
  const { stage, reasons } = await ready();
  await hold(stage);
  await stage.generation.context.sockets.listen(createServer(), {
    address: { kind: "tcp", host: "127.0.0.1", port: 0, ipv6Only: false },
    name: "web",
    backlog: 16,
    mode: -1,
    signal: undefined,
  });
  expect(reasons).toEqual(["a listener or descriptor was opened or closed"]);
  expect(await upgradeAfresh(stage)).toBe(false);
  await until(() => stage.successor.types.includes("inventory"), "the inventory");
  expect(stage.successor.messages).toContainEqual(
    expect.objectContaining({
      type: "inventory",
      entries: expect.arrayContaining([expect.objectContaining({ name: "web" })]) as unknown,
    }),
  );
});

test("unstage() ends the staged successor and returns it; without one it returns undefined", async () => {
  const { stage, reasons } = await ready();
  const staged = await hold(stage);
  expect(stage.generation.unstage()).toEqual(staged);
  await stage.successor.receives("rehearsed");
  expect(reasons).toEqual(["it was unstaged"]);
  expect(stage.generation.unstage()).toBeUndefined();
});

test("of an unstage() and an upgrade() in one turn the first one wins", async () => {
  const { stage: one } = await ready();
  await hold(one);
  const upgrade = one.generation.upgrade(undefined);
  expect(() => one.generation.unstage()).toThrow(
    expect.objectContaining({ code: "ERR_UPGRADE_IN_PROGRESS" }),
  );
  expect(await upgrade).toMatchObject({ staged: true });

  const { stage: two } = await ready();
  await hold(two);
  two.generation.unstage();
  expect(await upgradeAfresh(two)).toBe(false);
  expect(two.spawns).toBe(2);
});

test("a stop kills the staged successor before this process ends the channel", async () => {
  const { stage, reasons } = await ready();
  await hold(stage);
  await stage.generation.stop();
  expect(stage.successor.isKilled).toBe(true);
  expect(reasons).toEqual(["this process is stopping"]);
  expect(stage.state).toBe("exited");
});

test("a stop while an upgrade asks the staged successor kills it, and the upgrade rejects with ERR_STOPPED", async () => {
  const { stage } = await ready();
  await hold(stage);
  stage.successor.isBlocked = true;
  const upgrade = stage.generation.upgrade(undefined);
  upgrade.catch(() => {});
  await until(() => stage.successor.types.filter((type) => type === "stage").length === 2, "the question");
  void stage.generation.stop();
  await expect(upgrade).rejects.toMatchObject({ code: "ERR_STOPPED" });
  expect(stage.successor.isKilled).toBe(true);
  expect(stage.spawns).toBe(1);
});

test("a staged successor that dies on probation is rolled back, and can be staged again", async () => {
  const { stage } = await ready();
  await hold(stage);
  const { settled } = await stage.generation.upgrade(undefined);
  stage.successor.exit(1);
  expect(await settled).toBe("rolledBack");
  await stage.reaches("ready");
  expect(await hold(stage)).toMatchObject({ generation: 1 });
});

test("a rehearsal does not touch the staged successor", async () => {
  const { stage, reasons } = await ready();
  await hold(stage);
  const rehearsal = stage.generation.rehearse(undefined);
  await until(() => stage.successors.length === 2, "a successor");
  stage.successor.ready();
  await rehearsal;
  expect(await stage.generation.upgrade(undefined)).toMatchObject({ staged: true });
  expect(reasons).toEqual([]);
});

test("an upgrade that is aborted before it begins leaves the staged successor as it is", async () => {
  const { stage, reasons } = await ready();
  await hold(stage);
  await expect(stage.generation.upgrade(AbortSignal.abort())).rejects.toMatchObject({ code: "ERR_ABORTED" });
  expect(await stage.generation.upgrade(undefined)).toMatchObject({ staged: true });
  expect(reasons).toEqual([]);
});

test("a hundred staged successors in a row leave no descriptor and no timer", async () => {
  const { stage, reasons } = await ready();
  const counts = (): string => `${readdirSync("/proc/self/fd").length} ${stage.clock.size}`;
  const before = counts();
  for (let n = 0; n < 100; n++) {
    await hold(stage);
    stage.generation.unstage();
  }
  await until(() => counts() === before, `${before} descriptors and timers`);
  expect(reasons).toHaveLength(100);
});

test("a staged process waits for its commit beyond upgradeTimeout, and answers that it is ready", async () => {
  const { stage, predecessor } = successorOf({ upgradeTimeout: 1_000 });
  const readiness = stage.generation.ready();
  await predecessor.receives("ready");
  predecessor.send({ type: "stage", ttl: 60_000 });
  await until(() => predecessor.types.filter((type) => type === "ready").length === 2, "the answer");
  stage.clock.advance(60_000);
  predecessor.send({ type: "commit", predecessors: [] });
  await readiness;
  expect(stage.state).toBe("ready");
});

test("a staged process whose predecessor hangs ends after its time and upgradeTimeout", async () => {
  const { stage, predecessor } = successorOf({ upgradeTimeout: 1_000 });
  const readiness = stage.generation.ready();
  readiness.catch(() => {});
  await predecessor.receives("ready");
  predecessor.send({ type: "stage", ttl: 60_000 });
  await until(() => predecessor.types.filter((type) => type === "ready").length === 2, "the answer");
  stage.clock.advance(61_000);
  await expect(readiness).rejects.toMatchObject({ code: "ERR_UPGRADE_TIMEOUT" });
});

test("a staged process accepts when its predecessor dies", async () => {
  const { stage, predecessor } = successorOf();
  const readiness = stage.generation.ready();
  await predecessor.receives("ready");
  predecessor.send({ type: "stage", ttl: 60_000 });
  await until(() => predecessor.types.filter((type) => type === "ready").length === 2, "the answer");
  predecessor.channel.close();
  await readiness;
  expect(stage.state).toBe("ready");
});
