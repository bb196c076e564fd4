import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Crowd } from "../support/crowd.js";
import { temporaryDirectory } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

const PROGRAM = "supervisor/odd-worker.js";

/** What a worker answers its supervisor in an upgrade. */
const ANSWERS = [
  { type: "ready" },
  { type: "commit-ack" },
  { type: "yielded", message: "an answer to no question" },
  { type: "ceased", fence: 0 },
  { type: "resumed" },
  { type: "checked", code: "ERR_UNMANAGED_LISTENER", message: "an answer to no question" },
  { type: "rebalanced", moved: 1 },
];

describe("workers that answer what they were not asked", () => {
  test("they send each message twice: upgrades, a rollback, a crash and a change of their number go on as ever", async () => {
    const dies = join(temporaryDirectory(), "dies");
    const service = await Supervised.start(PROGRAM, { probation: 1_000, settings: { twice: true, dies } });
    const crowd = new Crowd(service.service, 4);
    await crowd.answered(10);
    await service.replace();
    const before = await service.pids();
    writeFileSync(dies, "");
    await expect(service.upgrade()).rejects.toThrow(/worker 0 has died/);
    rmSync(dies);
    await service.settled();
    expect(await service.pids()).toEqual(before);
    process.kill(before[0]!, "SIGKILL");
    await service.eventually(({ workers }) => workers![0]!.restarts === 1 && workers![0]!.state === "ready");
    await service.scale(3);
    await service.scale(1);
    const { generation, workers } = await service.replace();
    expect(generation).toBe(2);
    expect(workers).toHaveLength(1);
    await crowd.leave();
    expect(crowd.failures.filter((failure) => !/ECONNRESET|socket hang up/.test(failure))).toEqual([]);
    await service.stop();
  });

  test.each(["ready", "accepts", "ceased"])(
    "they repeat their answers at the moment %s: upgrades and a rollback go on as ever",
    async (at) => {
      const dies = join(temporaryDirectory(), "dies");
      const service = await Supervised.start(PROGRAM, {
        probation: 1_000,
        settings: { again: ANSWERS, at, dies },
      });
      const crowd = new Crowd(service.service, 4);
      await crowd.answered(10);
      await service.replace();
      const before = await service.pids();
      writeFileSync(dies, "");
      await expect(service.upgrade()).rejects.toThrow(/worker 0 has died/);
      const { workers } = await service.settled();
      expect(workers!.map(({ pid }) => pid)).toEqual(before);
      expect(workers!.filter(({ roles }) => roles)).toHaveLength(1);
      rmSync(dies);
      const { generation } = await service.replace();
      expect(generation).toBe(2);
      await service.until("odd");
      await crowd.answered(40);
      await crowd.leave();
      expect(crowd.failures.filter((failure) => !/ECONNRESET|socket hang up/.test(failure))).toEqual([]);
      await service.stop();
    },
  );
});

describe("a worker whose messages cannot be understood", () => {
  test.each([
    { at: "ready", bytes: "\u0001\u0002", code: "ERR_PROTOCOL" },
    { at: "ready", bytes: '{"type":"ready"}', code: "ERR_PROTOCOL" },
    { at: "accepts", bytes: '{"type":"ceased","fence":"many"}', code: "ERR_ROLLED_BACK" },
  ])("as a new worker when it $at: it is killed, and the old workers serve", async ({ at, bytes, code }) => {
    const garbage = { generation: 1, index: 1, bytes };
    const service = await Supervised.start(PROGRAM, { probation: 5_000, settings: { garbage, at } });
    const before = await service.pids();
    await expect(service.upgrade()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/worker 1.*cannot understand a message of the other process/),
    });
    await service.settled();
    expect(await service.pids()).toEqual(before);
    expect(before).toContain(Number(await service.service.ask()));
    await service.stop();
  });

  test("as a worker that serves: it is killed and started again until it has failed, and the others serve", async () => {
    const settings = { garbage: { generation: 0, index: 1, bytes: "no JSON" }, at: "accepts" };
    const service = await Supervised.start(PROGRAM, { restarts: 1, backoff: 0, settings });
    const { workers } = await service.eventually(({ workers: [, one] = [] }) => one!.state === "failed");
    expect(workers![1]!.lastExit).toMatch(/cannot understand a message of the other process: not JSON/);
    for (let n = 0; n < 10; n++) expect(await service.service.ask()).toBe(String(workers![0]!.pid));
    await service.stop();
  });

  test("of a type that does not exist: it is told so, and serves", async () => {
    const garbage = { generation: 1, index: 1, bytes: '{"type":"from a later version"}' };
    const service = await Supervised.start(PROGRAM, { settings: { garbage, at: "ready" } });
    expect((await service.replace()).generation).toBe(1);
    await service.until("odd", { generation: 1, worker: 1 });
    await service.stop();
  });
});

test("an upgrade to an earlier version of handover, which has no workers, fails, and the old workers serve", async () => {
  const earlier = join(temporaryDirectory(), "earlier");
  const service = await Supervised.start(PROGRAM, { settings: { earlier } });
  const before = await service.pids();
  writeFileSync(earlier, "");
  await expect(service.upgrade()).rejects.toMatchObject({
    message: expect.stringMatching(/the program uses handover 0\.0\.9, which cannot be a worker/),
  });
  expect(await service.pids()).toEqual(before);
  rmSync(earlier);
  expect((await service.replace()).generation).toBe(1);
  await service.stop();
});
