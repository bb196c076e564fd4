import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Crowd } from "../support/crowd.js";
import { descriptorCount, temporaryDirectory } from "../support/service.js";
import { Supervised, type SupervisedOptions } from "../support/supervised.js";

interface Fault {
  /** At which moment of its life the process does it; see the fixture. */
  at: string;
  how: "die" | "exit" | "throw" | "stop" | "loop" | "pause";
  generation: number;
  index: number;
}

/** A service whose workers misbehave until {@link disarm}. */
class Faulty {
  readonly service: Supervised;
  readonly crowd: Crowd;
  readonly disarm: () => void;
  readonly #descriptors: number;

  static async start(faults: Fault[], options: SupervisedOptions = {}): Promise<Faulty> {
    const armed = join(temporaryDirectory(), "armed");
    writeFileSync(armed, "");
    const service = await Supervised.start("supervisor/faulty-worker.js", {
      ...options,
      settings: { armed, faults },
    });
    const crowd = new Crowd(service.service, 4);
    await crowd.answered(10);
    return new Faulty(service, crowd, () => rmSync(armed, { force: true }), descriptorCount(service.pid));
  }

  private constructor(service: Supervised, crowd: Crowd, disarm: () => void, descriptors: number) {
    this.service = service;
    this.crowd = crowd;
    this.disarm = disarm;
    this.#descriptors = descriptors;
  }

  get descriptors(): number {
    return this.#descriptors;
  }
}

/**
 * Sees that this generation serves, with a process for each index and none beside them, that the supervisor has as many
 * descriptors as at first, that no client was refused, and that the service can still be upgraded and stopped.
 */
async function expectWell(faulty: Faulty, generation: number): Promise<void> {
  await expectServing(faulty, generation);
  faulty.disarm();
  await faulty.service.replace();
  await expectServing(faulty, generation + 1);
  await faulty.crowd.leave();
  await faulty.service.stop();
}

async function expectServing({ service, crowd, descriptors }: Faulty, generation: number): Promise<void> {
  const { workers = [] } = await service.eventually(
    (status) =>
      status.state === "ready" &&
      status.predecessors.length === 0 &&
      status.workers!.every(
        (one) => one.state === "ready" && one.generation === generation && one.silence! < 1_000,
      ) &&
      service.service.alive().length === status.workers!.length + 1 &&
      // The connection that asks is one more.
      descriptorCount(service.pid) <= descriptors + 1,
  );
  expect(workers.filter(({ roles }) => roles)).toHaveLength(1);
  const pids = workers.map(({ pid }) => pid!);
  expect(new Set(service.service.alive())).toEqual(new Set([service.pid, ...pids]));
  const before = new Map(crowd.answers);
  await crowd.answered(40);
  const answered = [...crowd.answers].filter(([pid, count]) => count > (before.get(pid) ?? 0));
  expect(pids).toEqual(expect.arrayContaining(answered.map(([pid]) => pid)));
  expect(crowd.failures.filter((failure) => failure.includes("ECONNREFUSED"))).toEqual([]);
}

/** The fault of the old workers of both indexes. */
function every(at: string, how: Fault["how"]): Fault[] {
  return [0, 1].map((index) => ({ at, how, generation: 0, index }));
}

describe("a new worker that fails before any new one accepts", () => {
  test.each([
    {
      at: "start",
      how: "die",
      code: "ERR_CHILD_EXITED",
      says: /worker 1 has died: .* was killed by SIGKILL/,
    },
    {
      at: "start",
      how: "throw",
      code: "ERR_CHILD_EXITED",
      says: /worker 1 .*Error: thrown by the test \(at /,
    },
    { at: "initialized", how: "exit", code: "ERR_CHILD_EXITED", says: /worker 1 has died: .* code 3/ },
    { at: "waiting", how: "exit", code: "ERR_CHILD_EXITED", says: /worker 1 has died: .* code 3/ },
    { at: "start", how: "stop", code: "ERR_UPGRADE_TIMEOUT", says: /worker 1 was not ready in time/ },
    { at: "initialized", how: "loop", code: "ERR_UPGRADE_TIMEOUT", says: /worker 1 was not ready in time/ },
  ] as const)("$how at $at: nothing changes", async ({ at, how, code, says }) => {
    const faulty = await Faulty.start([{ at, how, generation: 1, index: 1 }], { readyTimeout: 5_000 });
    const { service, crowd } = faulty;
    const before = await service.pids();
    await expect(service.upgrade()).rejects.toMatchObject({ code, message: expect.stringMatching(says) });
    expect(await service.pids()).toEqual(before);
    expect((await service.status()).upgrades!.at(-1)).toMatchObject({ outcome: "failed", code });
    await expectWell(faulty, 0);
    expect(crowd.failures).toEqual([]);
  });
});

describe("a new worker that fails after the commit", () => {
  test.each([
    { at: "accept", how: "die", says: /worker 1 has died/ },
    { at: "accept", how: "stop", says: /worker 1 did not respond, and was killed/ },
    { at: "accept", how: "loop", says: /worker 1 did not respond, and was killed/ },
    { at: "accepting", how: "die", says: /worker 1 has died/ },
    { at: "accepting", how: "throw", says: /Error: thrown by the test \(at / },
    { at: "accepting", how: "stop", says: /worker 1 did not respond, and was killed/ },
    { at: "accepting", how: "loop", says: /worker 1 did not respond, and was killed/ },
  ] as const)("$how at $at: every worker is rolled back", async ({ at, how, says }) => {
    const faulty = await Faulty.start([{ at, how, generation: 1, index: 1 }], { probation: 1_000 });
    const { service } = faulty;
    const before = await service.pids();
    const { answer } = await service.beginUpgrade();
    await expect(answer).rejects.toMatchObject({ message: expect.stringMatching(says) });
    expect(await service.pids()).toEqual(before);
    expect((await service.status()).upgrades!.at(-1)).toMatchObject({ outcome: "rolledBack" });
    await expectWell(faulty, 0);
  });
});

describe("an old worker that fails during an upgrade", () => {
  test.each([
    { at: "release", faults: every("release", "die") },
    { at: "cease", faults: [{ at: "cease", how: "die", generation: 0, index: 1 }] },
    { at: "cease (all)", faults: every("cease", "die") },
    { at: "ceased", faults: every("ceased", "die") },
  ] as const)("die at $at: the new workers serve", async ({ faults }) => {
    const faulty = await Faulty.start([...faults]);
    expect((await faulty.service.upgrade()).generation).toBe(1);
    await expectWell(faulty, 1);
  });

  test.each(["stop", "loop"] as const)(
    "%s after it has ceased: it is killed when it hangs for long",
    async (how) => {
      const faulty = await Faulty.start(every("ceased", how), { hangTimeout: 4_000 });
      expect((await faulty.service.upgrade()).generation).toBe(1);
      await expectWell(faulty, 1);
    },
  );

  test.each([
    { at: "release", code: "ERR_CEASE_TIMEOUT", how: "stop" },
    { at: "release", code: "ERR_CEASE_TIMEOUT", how: "loop" },
    { at: "cease", code: "ERR_CEASE_TIMEOUT", how: "stop" },
    { at: "cease", code: "ERR_CEASE_TIMEOUT", how: "loop" },
  ] as const)("$how at $at: the upgrade fails, and the worker is replaced", async ({ at, how, code }) => {
    const faulty = await Faulty.start(every(at, how), { hangTimeout: 6_000, backoff: 0 });
    await expect(faulty.service.upgrade()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/workers? [01]/),
    });
    faulty.disarm();
    await expectWell(faulty, 0);
  });

  test("throw at release: the upgrade fails, and the old workers serve", async () => {
    const faulty = await Faulty.start(every("release", "throw"));
    await expect(faulty.service.upgrade()).rejects.toMatchObject({
      code: "ERR_ROLE",
      message: expect.stringMatching(/worker [01] did not release the roles: .*thrown by the test/),
    });
    await expectWell(faulty, 0);
  });

  test("die while a new one starts: the others serve, and then the new ones", async () => {
    const faulty = await Faulty.start([{ at: "start", how: "pause", generation: 1, index: 0 }]);
    const { service, crowd } = faulty;
    const { answer } = await service.beginUpgrade();
    const { pid } = await service.until("fault");
    const holder = (await service.workers()).find(({ roles }) => roles === true)!;
    process.kill(holder.pid!, "SIGKILL");
    await service.eventually(({ workers = [] }) => {
      const next = workers.find(({ roles }) => roles === true);
      return next?.state === "ready" && next.index !== holder.index;
    });
    await crowd.answered(40);
    process.kill(pid, "SIGUSR2");
    expect((await answer).generation).toBe(1);
    await expectWell(faulty, 1);
  });

  test("all die while a new one hangs: those that are ready serve at once", async () => {
    const faulty = await Faulty.start([{ at: "start", how: "stop", generation: 1, index: 0 }]);
    const { service, crowd } = faulty;
    const { answer } = await service.beginUpgrade();
    const { pid: hanging } = await service.until("fault");
    const olds = await service.pids();
    await service.until("ready to accept", { worker: 1, generation: 1 });
    for (const pid of olds) process.kill(pid, "SIGKILL");
    await expect(answer).rejects.toMatchObject({
      code: "ERR_CHILD_EXITED",
      message: expect.stringMatching(/every worker that served has died/),
    });
    await crowd.answered(40);
    process.kill(hanging, "SIGKILL");
    faulty.disarm();
    await expectWell(faulty, 1);
  });
});
