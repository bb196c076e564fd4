import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { UpgraderEvents } from "../../dist/events.js";
import type { Env } from "../../dist/process/env.js";
import type { UpgraderOptions } from "../../dist/options.js";
import { PEER, DrivenProcess, successorOf, until } from "../support/fake-env.js";

/** A process that accepts, without a predecessor; and why its staged successors were thrown away. */
async function ready(
  options: UpgraderOptions = {},
  env: Partial<Env> = {},
): Promise<{ driven: DrivenProcess; reasons: string[] }> {
  const driven = new DrivenProcess(options, env);
  const reasons: string[] = [];
  driven.emitter.on("unstaged", ({ reason }) => reasons.push(reason));
  await driven.generation.ready();
  return { driven, reasons };
}

/** Stages a successor. */
async function hold(driven: DrivenProcess, ttl?: number): Promise<UpgraderEvents["staged"][0]> {
  const { length } = driven.successors;
  const staging = driven.generation.stage(ttl);
  await until(() => driven.successors.length > length, "a successor");
  driven.successor.readyToBeStaged();
  return staging;
}

/** Upgrades with a successor that has to be started first. */
async function upgradeAfresh(driven: DrivenProcess): Promise<boolean> {
  const { length } = driven.successors;
  const upgrade = driven.generation.upgrade(undefined);
  await until(() => driven.successors.length > length, "a successor");
  driven.successor.ready();
  return (await upgrade).staged;
}

test("stage() starts a successor, holds it, and the next upgrade() commits it without another start", async () => {
  const { driven, reasons } = await ready();
  const before = Date.now();
  const staged = await hold(driven, 5_000);
  expect(staged).toMatchObject({ pid: PEER, generation: 1 });
  expect(staged.expires).toBeGreaterThanOrEqual(before + 5_000);
  expect(driven.state).toBe("ready");
  expect((await driven.generation.status()).staged).toEqual(staged);
  const { settled: _, ...result } = await driven.generation.upgrade(undefined);
  expect(result).toMatchObject({ pid: PEER, generation: 1, staged: true, timings: { spawn: 0 } });
  await driven.successor.receives("commit");
  expect(driven.spawns).toBe(1);
  expect(driven.events).toEqual(["ready", "upgrading", "staged", "upgrading", "upgraded", "draining"]);
  expect(reasons).toEqual([]);
});

test("stage() resolves with the successor that is staged already", async () => {
  const { driven } = await ready();
  const staged = await hold(driven);
  expect(await driven.generation.stage()).toEqual(staged);
  expect(driven.spawns).toBe(1);
});

test("stage() is refused as an upgrade is", async () => {
  const starting = new DrivenProcess();
  await expect(starting.generation.stage()).rejects.toMatchObject({ code: "ERR_NOT_READY" });
  const { driven } = await ready();
  const { upgrade } = await driven.startUpgrade();
  await expect(driven.generation.stage()).rejects.toMatchObject({ code: "ERR_UPGRADE_IN_PROGRESS" });
  driven.successor.ready();
  await upgrade;
  await expect(driven.generation.stage()).rejects.toMatchObject({ code: "ERR_ALREADY_UPGRADED" });
});

test("upgrade() is refused while a successor is being staged", async () => {
  const { driven } = await ready();
  const staging = driven.generation.stage();
  await until(() => driven.successors.length === 1, "a successor");
  await expect(driven.generation.upgrade(undefined)).rejects.toMatchObject({
    code: "ERR_UPGRADE_IN_PROGRESS",
  });
  driven.successor.readyToBeStaged();
  await staging;
});

test("stage() rejects with ERR_NOT_SUPPORTED if the new code has a version of handover that cannot wait", async () => {
  const { driven } = await ready();
  const staging = driven.generation.stage();
  await until(() => driven.successors.length === 1, "a successor");
  driven.successor.ready();
  await expect(staging).rejects.toMatchObject({ code: "ERR_NOT_SUPPORTED" });
  expect(driven.successor.isKilled).toBe(true);
  expect(driven.state).toBe("ready");
});

test("a staged successor exits when its time is over, and the next upgrade starts another one", async () => {
  const { driven, reasons } = await ready();
  await hold(driven, 5_000);
  driven.clock.advance(5_000);
  await driven.successor.receives("rehearsed");
  expect(reasons).toEqual(["its time of 5000 ms is over"]);
  expect((await driven.generation.status()).staged).toBeUndefined();
  expect(await upgradeAfresh(driven)).toBe(false);
  expect(driven.spawns).toBe(2);
});

test("a staged successor that dies is gone quietly, and the next upgrade starts another one", async () => {
  const { driven, reasons } = await ready();
  await hold(driven);
  driven.successor.exit(7);
  await until(() => reasons.length === 1, "the event unstaged");
  expect(reasons).toEqual([expect.stringContaining(`the successor (pid ${PEER}) exited with code 7`)]);
  expect(await upgradeAfresh(driven)).toBe(false);
  expect(driven.events).not.toContain("failed");
});

test("an upgrade throws a staged successor away that does not answer, and starts another one", async () => {
  const { driven, reasons } = await ready();
  await hold(driven);
  const [blocked] = driven.successors;
  blocked!.isBlocked = true;
  const upgrade = driven.generation.upgrade(undefined);
  await until(() => blocked!.types.filter((type) => type === "stage").length === 2, "the question");
  driven.clock.advance(1_000);
  await until(() => reasons.length === 1, "the event unstaged");
  expect(reasons).toEqual([`the successor (pid ${PEER}) did not answer`]);
  driven.clock.advance(1_000);
  await until(() => driven.successors.length === 2, "another successor");
  expect(blocked!.isKilled).toBe(true);
  driven.successor.ready();
  expect(await upgrade).toMatchObject({ staged: false });
});

test("an upgrade uses a staged successor only if the command and the environment are the same", async () => {
  let version = "1";
  const { driven, reasons } = await ready({
    spawn: () => ({ args: ["server.js"], env: { VERSION: version } }),
  });
  await hold(driven);
  version = "2";
  expect(await upgradeAfresh(driven)).toBe(false);
  expect(reasons).toEqual(["the environment of the successor has changed"]);
});

test("an upgrade uses a staged successor only if the release behind a symlink is the same", async () => {
  const directory = mkdtempSync(join(tmpdir(), "handover-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const current = join(directory, "current.js");
  for (const name of ["one.js", "two.js"]) writeFileSync(join(directory, name), "");
  symlinkSync("one.js", current);
  const { driven, reasons } = await ready({ spawn: { args: [current] } });
  await hold(driven);
  rmSync(current);
  symlinkSync("two.js", current);
  expect(await upgradeAfresh(driven)).toBe(false);
  expect(reasons).toEqual([`${current} has changed`]);
});

test("an upgrade throws a staged successor away whose command can no longer be told", async () => {
  let isBroken = false;
  const spawn = (): object => {
    if (isBroken) throw new Error("no such release");
    return {};
  };
  const { driven, reasons } = await ready({ spawn });
  await hold(driven);
  isBroken = true;
  await expect(driven.generation.upgrade(undefined)).rejects.toMatchObject({
    cause: { message: "no such release" },
  });
  expect(reasons).toEqual(['cannot start a successor: the option "spawn" threw: no such release']);
  await driven.reaches("ready");
});

test("a staged successor is thrown away when a listener is opened, and the next one inherits it", async () => {
  const { driven, reasons } = await ready();
  await hold(driven);
  await driven.generation.context.sockets.listen(createServer(), {
    address: { kind: "tcp", host: "127.0.0.1", port: 0, ipv6Only: false },
    name: "web",
    backlog: 16,
    mode: -1,
    signal: undefined,
  });
  expect(reasons).toEqual(["a listener or descriptor was opened or closed"]);
  expect(await upgradeAfresh(driven)).toBe(false);
  await until(() => driven.successor.types.includes("inventory"), "the inventory");
  expect(driven.successor.messages).toContainEqual(
    expect.objectContaining({
      type: "inventory",
      entries: expect.arrayContaining([expect.objectContaining({ name: "web" })]) as unknown,
    }),
  );
});

test("unstage() ends the staged successor and returns it; without one it returns undefined", async () => {
  const { driven, reasons } = await ready();
  const staged = await hold(driven);
  expect(driven.generation.unstage()).toEqual(staged);
  await driven.successor.receives("rehearsed");
  expect(reasons).toEqual(["it was unstaged"]);
  expect(driven.generation.unstage()).toBeUndefined();
});

test("of an unstage() and an upgrade() in one turn the first one wins", async () => {
  const { driven: one } = await ready();
  await hold(one);
  const upgrade = one.generation.upgrade(undefined);
  expect(() => one.generation.unstage()).toThrow(
    expect.objectContaining({ code: "ERR_UPGRADE_IN_PROGRESS" }),
  );
  expect(await upgrade).toMatchObject({ staged: true });

  const { driven: two } = await ready();
  await hold(two);
  two.generation.unstage();
  expect(await upgradeAfresh(two)).toBe(false);
  expect(two.spawns).toBe(2);
});

test("a stop kills the staged successor before this process ends the channel", async () => {
  const { driven, reasons } = await ready();
  await hold(driven);
  await driven.generation.stop();
  expect(driven.successor.isKilled).toBe(true);
  expect(reasons).toEqual(["this process is stopping"]);
  expect(driven.state).toBe("exited");
});

test("a stop while an upgrade asks the staged successor kills it, and the upgrade rejects with ERR_STOPPED", async () => {
  const { driven } = await ready();
  await hold(driven);
  driven.successor.isBlocked = true;
  const upgrade = driven.generation.upgrade(undefined);
  upgrade.catch(() => {});
  await until(() => driven.successor.types.filter((type) => type === "stage").length === 2, "the question");
  void driven.generation.stop();
  await expect(upgrade).rejects.toMatchObject({ code: "ERR_STOPPED" });
  expect(driven.successor.isKilled).toBe(true);
  expect(driven.spawns).toBe(1);
});

test("a stop while an upgrade waits for the death of a successor that was unstaged starts no other one", async () => {
  const { driven } = await ready();
  await hold(driven);
  driven.successor.isBlocked = true;
  driven.generation.unstage();
  const upgrade = driven.generation.upgrade(undefined);
  upgrade.catch(() => {});
  void driven.generation.stop();
  driven.clock.advance(1_000);
  await expect(upgrade).rejects.toMatchObject({ code: "ERR_STOPPED" });
  await driven.generation.exit;
  expect(driven.spawns).toBe(1);
});

test("stage() rejects with the way a successor died that was ready, and did not answer", async () => {
  const { driven } = await ready();
  const staging = driven.generation.stage();
  await until(() => driven.successors.length === 1, "a successor");
  driven.successor.isBlocked = true;
  driven.successor.readyToBeStaged();
  await driven.successor.receives("stage");
  driven.successor.exit(7);
  await expect(staging).rejects.toMatchObject({
    code: "ERR_CHILD_EXITED",
    message: expect.stringContaining("exited with code 7") as unknown,
  });
  expect(driven.state).toBe("ready");
});

test("a stage that is aborted when the successor is ready, and has not answered yet, ends the successor", async () => {
  const { driven } = await ready();
  const controller = new AbortController();
  const staging = driven.generation.stage(undefined, controller.signal);
  await until(() => driven.successors.length === 1, "a successor");
  driven.successor.readyToBeStaged();
  await driven.successor.receives("stage");
  controller.abort();
  await expect(staging).rejects.toMatchObject({ code: "ERR_ABORTED" });
  expect(driven.state).toBe("ready");
  expect((await driven.generation.status()).staged).toBeUndefined();
  expect(driven.events).toEqual(["ready", "upgrading"]);
});

test("a staged successor that cannot be killed makes an upgrade fail once", async () => {
  const { driven } = await ready();
  await hold(driven);
  Object.assign(driven.successor, { isBlocked: true, isUnkillable: true });
  const upgrade = driven.generation.upgrade(undefined);
  upgrade.catch(() => {});
  await until(() => driven.successor.types.filter((type) => type === "stage").length === 2, "the question");
  driven.clock.advance(1_000);
  await driven.successor.receives("rehearsed");
  driven.clock.advance(1_000);
  driven.clock.advance(5_000);
  await expect(upgrade).rejects.toMatchObject({ code: "ERR_UNKILLABLE" });
  expect(driven.events.filter((name) => name === "failed")).toHaveLength(1);
});

test("a staged successor that dies on probation is rolled back, and can be staged again", async () => {
  const { driven } = await ready();
  await hold(driven);
  const { settled } = await driven.generation.upgrade(undefined);
  driven.successor.exit(1);
  expect(await settled).toBe("rolledBack");
  await driven.reaches("ready");
  expect(await hold(driven)).toMatchObject({ generation: 1 });
});

test("a rehearsal does not touch the staged successor", async () => {
  const { driven, reasons } = await ready();
  await hold(driven);
  const rehearsal = driven.generation.rehearse(undefined);
  await until(() => driven.successors.length === 2, "a successor");
  driven.successor.ready();
  await rehearsal;
  expect(await driven.generation.upgrade(undefined)).toMatchObject({ staged: true });
  expect(reasons).toEqual([]);
});

test("an upgrade that is aborted before it begins leaves the staged successor as it is", async () => {
  const { driven, reasons } = await ready();
  await hold(driven);
  await expect(driven.generation.upgrade(AbortSignal.abort())).rejects.toMatchObject({ code: "ERR_ABORTED" });
  expect(await driven.generation.upgrade(undefined)).toMatchObject({ staged: true });
  expect(reasons).toEqual([]);
});

test("a hundred staged successors in a row leave no descriptor and no timer", async () => {
  const { driven, reasons } = await ready();
  const counts = (): string => `${readdirSync("/proc/self/fd").length} ${driven.clock.size}`;
  const before = counts();
  for (let n = 0; n < 100; n++) {
    await hold(driven);
    driven.generation.unstage();
  }
  await until(() => counts() === before, `${before} descriptors and timers`);
  expect(reasons).toHaveLength(100);
});

test("a staged process waits for its commit beyond upgradeTimeout, and answers that it is ready", async () => {
  const { driven, predecessor } = successorOf({ upgradeTimeout: 1_000 });
  const readiness = driven.generation.ready();
  await predecessor.receives("ready");
  predecessor.send({ type: "stage", ttl: 60_000 });
  await until(() => predecessor.types.filter((type) => type === "ready").length === 2, "the answer");
  driven.clock.advance(60_000);
  predecessor.send({ type: "commit", predecessors: [] });
  await readiness;
  expect(driven.state).toBe("ready");
});

test("a staged process whose predecessor hangs ends after its time and upgradeTimeout", async () => {
  const { driven, predecessor } = successorOf({ upgradeTimeout: 1_000 });
  const readiness = driven.generation.ready();
  readiness.catch(() => {});
  await predecessor.receives("ready");
  predecessor.send({ type: "stage", ttl: 60_000 });
  await until(() => predecessor.types.filter((type) => type === "ready").length === 2, "the answer");
  driven.clock.advance(61_000);
  await expect(readiness).rejects.toMatchObject({ code: "ERR_UPGRADE_TIMEOUT" });
});

test("a staged process accepts when its predecessor dies", async () => {
  const { driven, predecessor } = successorOf();
  const readiness = driven.generation.ready();
  await predecessor.receives("ready");
  predecessor.send({ type: "stage", ttl: 60_000 });
  await until(() => predecessor.types.filter((type) => type === "ready").length === 2, "the answer");
  predecessor.channel.close();
  await readiness;
  expect(driven.state).toBe("ready");
});
