import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Crowd } from "../support/crowd.js";
import { keepAlive } from "../support/faults.js";
import { MixedLoad } from "../support/mixed-load.js";
import { handover } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

test("scaling from 4 to 2 and to 4 workers six times under load resets nothing and closes nothing", async () => {
  const service = await Supervised.start("../soak/server.js", { workers: 4 });
  const load = await MixedLoad.on(service.service);
  for (let n = 0; n < 6; n++) {
    expect(await service.scale(2)).toMatchObject({ from: 4, workers: 2 });
    await load.answered(20);
    expect(await service.scale(4)).toMatchObject({ from: 2, workers: 4 });
    await load.answered(20);
  }
  expect(await load.stop()).toEqual([]);
  await service.stop();
  // A WebSocket that moved went on where it was.
  expect(service.service.noise).not.toContain("heard");
});

test("new workers have the next indexes, and each process counts the workers of its start", async () => {
  const service = await Supervised.start("supervisor/starts-by-index.js", { workers: 1 });
  await service.scale(3);
  for (const worker of [0, 1, 2]) await service.until("accepting", { worker });
  const counts = service.service.lines.flatMap(({ event, worker, count, generation }) =>
    event === "accepting" ? [{ worker, count, generation }] : [],
  );
  expect(counts.toSorted((a, b) => Number(a.worker) - Number(b.worker))).toEqual([
    { worker: 0, count: 1, generation: 0 },
    { worker: 1, count: 3, generation: 0 },
    { worker: 2, count: 3, generation: 0 },
  ]);
  expect((await service.workers()).map(({ state }) => state)).toEqual(["ready", "ready", "ready"]);
  await service.stop();
});

test("a worker that was told to accept and has not begun when its index is removed ends", async () => {
  const armed = join(temporaryDirectory(), "armed");
  const faults = [{ at: "accept", index: 1, generation: 0, how: "stop" }];
  const service = await Supervised.start("supervisor/faulty-worker.js", { settings: { armed, faults } });
  const [, first] = await service.pids();
  writeFileSync(armed, "");
  process.kill(first!, "SIGKILL");
  const { pid } = await service.until("fault", { at: "accept" });
  await service.scale(1);
  process.kill(pid, "SIGCONT");
  expect(await service.until("exited", { pid })).toMatchObject({ worker: 1, outcome: "stopped" });
  await service.stop();
});

describe("what a worker that leaves has", () => {
  test("its slots and units move to one that stays, and the fences of the units grow", async () => {
    const each = { 0: { subscribe: [["a", "s"]] } };
    const slots = await Supervised.start("obeys-slots.js", { workers: 3, settings: { each } });
    const [taker, , leaver] = await slots.pids();
    await slots.tell(leaver!, "initiate", "a", { of: 2 });
    await slots.scale(1);
    expect(await slots.until("took", { pid: taker! })).toMatchObject({ data: { of: 2 } });
    expect(await slots.until("outcome", { pid: leaver! })).toMatchObject({ how: "taken" });
    await slots.stop();
  });

  test("its totals move to one that stays, also where no worker was upgraded yet", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 2 });
    const [staying, leaving] = await service.pids();
    // Each on a connection that it keeps.
    while ((await service.service.ask("/", keepAlive())) !== String(leaving));
    await service.scale(1);
    const { moved } = await service.until("exit", { pid: leaving! });
    expect(moved).toBeGreaterThan(0);
    expect(await service.tell(staying!, "totals")).toMatchObject({ connections: { moved } });
    await service.stop();
  });

  test("its units go on in the worker whose index is its own modulo the number of workers", async () => {
    const service = await Supervised.start("obeys-units.js", { workers: 4 });
    const pids = await service.pids();
    for (const [index, pid] of pids.entries()) await service.tell(pid, "start", `unit ${index}`);
    await service.scale(2);
    for (const index of [2, 3]) {
      const first = await service.until("run", { pid: pids[index]! });
      const ran = await service.until("run", { pid: pids[index - 2]!, id: `unit ${index}` });
      expect(ran).toMatchObject({ id: `unit ${index}`, runs: 2 });
      expect(Number(ran["fence"])).toBeGreaterThan(Number(first["fence"]));
      await service.until("exited", { pid: pids[index]!, outcome: "upgraded" });
    }
    // They are not this worker's alone: the next worker of its index has them.
    const from = service.service.lines.length;
    await service.replace();
    for (const id of ["unit 0", "unit 2"])
      await service.until("run", { worker: 0, id, runs: id === "unit 0" ? 2 : 3 }, from);
    await service.stop();
  });

  test("the roles are another worker's after it has released them", async () => {
    const service = await Supervised.start("obeys-roles.js", { workers: 2, settings: { roles: ["a"] } });
    const holder = await giveRolesToLast(service);
    const from = service.service.lines.length;
    await service.scale(1);
    const acquired = await service.until("acquire", { worker: 0 }, from);
    const released = await service.until("released", { pid: holder }, from);
    expect(Number(acquired["at"])).toBeGreaterThan(Number(released["at"]));
    const before = await service.until("acquire", { pid: holder });
    expect(Number(acquired["fence"])).toBeGreaterThan(Number(before["fence"]));
    await service.stop();
  });
});

describe("a scale that fails", () => {
  test("leaves the service as it was if a new worker dies", async () => {
    const service = await Supervised.start("supervisor/starts-by-index.js", {
      workers: 2,
      settings: { dies: [3] },
    });
    const pids = await service.pids();
    const crowd = new Crowd(service.service);
    await expect(service.scale(5)).rejects.toMatchObject({
      code: "ERR_CHILD_EXITED",
      message: expect.stringMatching(/^cannot scale: worker 3 has died: .*code 7/),
    });
    await crowd.answered(50);
    await crowd.leave();
    expect(crowd.failures).toEqual([]);
    expect([...crowd.answers.keys()].filter((pid) => !pids.includes(pid))).toEqual([]);
    expect(await service.pids()).toEqual(pids);
    // What failed is gone, and can be tried again.
    expect(await service.scale(3)).toMatchObject({ from: 2 });
    await service.stop();
  });

  test("leaves the service as it was if a worker that is to leave cannot release its roles", async () => {
    const service = await Supervised.start("obeys-roles.js", { workers: 2, settings: { roles: ["a"] } });
    const holder = await giveRolesToLast(service);
    const pids = await service.pids();
    await service.tell(holder, "fail", "release", "a");
    await expect(service.scale(1)).rejects.toMatchObject({
      code: "ERR_ROLE",
      message: expect.stringContaining("worker 1 did not release its roles"),
    });
    expect(await service.pids()).toEqual(pids);
    const from = service.service.lines.length;
    await service.scale(1);
    await service.until("acquired", { worker: 0 }, from);
    await service.stop();
  });

  test("goes on if a worker that is to leave dies before it has left", async () => {
    const each = { 0: { release: { a: "hang" } } };
    const service = await Supervised.start("obeys-roles.js", {
      workers: 2,
      settings: { roles: ["a"], each, timeout: 60_000 },
    });
    const holder = await giveRolesToLast(service);
    const from = service.service.lines.length;
    const scaling = service.scale(1);
    await service.until("release", { pid: holder });
    process.kill(holder, "SIGKILL");
    expect(await scaling).toMatchObject({ workers: 1 });
    await service.until("acquired", { worker: 0 }, from);
    expect(await service.workers()).toMatchObject([{ index: 0, state: "ready", roles: true }]);
  });
});

describe("at the same time", () => {
  test("an upgrade, a restart and a further scale are refused, and a stop ends the scale", async () => {
    const service = await Supervised.start("supervisor/starts-by-index.js", {
      workers: 1,
      settings: { waits: [1] },
    });
    const scaling = service.scale(2);
    scaling.catch(() => {});
    await service.until("started", { worker: 1 });
    const busy = {
      code: "ERR_UPGRADE_IN_PROGRESS",
      message: expect.stringContaining("the number of workers is being changed"),
    };
    await expect(service.upgrade()).rejects.toMatchObject(busy);
    await expect(service.restart()).rejects.toMatchObject(busy);
    await expect(service.scale(3)).rejects.toMatchObject(busy);
    await service.stop();
    await expect(scaling).rejects.toMatchObject({ code: "ERR_STOPPED" });
  });

  test("a scale is refused during an upgrade, also on probation", async () => {
    const service = await Supervised.start("http.js", { probation: 60_000 });
    const { committed, answer } = await service.beginUpgrade();
    answer.catch(() => {});
    const busy = { code: "ERR_UPGRADE_IN_PROGRESS" };
    await service.eventually(({ state }) => state === "upgrading");
    await expect(service.scale(3)).rejects.toMatchObject(busy);
    await committed;
    await expect(service.scale(3)).rejects.toMatchObject(busy);
    await service.stop();
  });
});

test("a scale starts a worker that has failed again", async () => {
  const service = await Supervised.start("http.js", { workers: 2, restarts: 0 });
  const [, second] = await service.pids();
  process.kill(second!, "SIGKILL");
  await service.eventually(({ workers }) => workers![1]!.state === "failed");
  expect(await service.scale(2)).toMatchObject({ from: 2, workers: 2 });
  expect((await service.workers()).map(({ state }) => state)).toEqual(["ready", "ready"]);
  await service.stop();
});

test.each([0, -1, 1.5, 254, "2", null])("%j is no number of workers", async (workers) => {
  const service = await Supervised.start("http.js", { workers: 1 });
  await expect(service.scale(workers as number)).rejects.toMatchObject({
    code: "ERR_OPTION",
    message: `the number of workers must be a whole number from 1 to 253, not ${JSON.stringify(workers)}`,
  });
  expect(await service.workers()).toHaveLength(1);
  await service.stop();
});

describe("a restart", () => {
  test("of one worker replaces it without a lost request, and leaves the others and the generation", async () => {
    const service = await Supervised.start("../soak/server.js", { workers: 2 });
    const [first, second] = await service.pids();
    const load = await MixedLoad.on(service.service);
    expect(await service.restart(1)).toMatchObject({ answer: "restarted", generation: 0 });
    await load.answered(20);
    expect(await load.stop()).toEqual([]);
    const pids = await service.pids();
    expect(pids[0]).toBe(first);
    expect(pids[1]).not.toBe(second);
    await service.stop();
  });

  test("without an index replaces each worker, one at a time", async () => {
    const service = await Supervised.start("supervisor/starts-by-index.js", { workers: 3 });
    const before = await service.pids();
    await service.restart();
    const after = await service.pids();
    expect(after.filter((pid) => before.includes(pid))).toEqual([]);
    const later = service.service.lines.filter(({ pid }) => after.includes(pid));
    const order = later.flatMap(({ event, worker }) =>
      event === "started" || event === "accepting" ? [`${event} ${String(worker)}`] : [],
    );
    expect(order).toEqual([0, 1, 2].flatMap((index) => [`started ${index}`, `accepting ${index}`]));
    await service.stop();
  });

  test("of an index that does not exist is an error", async () => {
    const service = await Supervised.start("http.js", { workers: 2 });
    for (const index of [2, -1, "0", 0.5])
      await expect(service.restart(index as number)).rejects.toMatchObject({
        code: "ERR_OPTION",
        message: `there is no worker ${index}: the service has 2, from 0 on`,
      });
    await service.stop();
  });
});

test("a process that runs alone has neither scale nor restart, and says what to do", async () => {
  const controlSocket = join(temporaryDirectory(), "control");
  const alone = Service.start("http.js", { settings: { controlSocket } });
  await alone.until("accepting");
  for (const words of [["scale", 2], ["restart"], ["restart", 0]]) {
    const { code, stderr } = await handover(...words, "--control", controlSocket);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^handover: there is no \w+ of this process.*handover upgrade.*handover run.*\n$/);
  }
  await alone.stop();
});

/** Returns the PID of worker 1 of two, which then holds the roles. */
async function giveRolesToLast(service: Supervised): Promise<number> {
  const [first] = await service.pids();
  process.kill(first!, "SIGKILL");
  const { workers } = await service.eventually(
    ({ workers: [zero, one] = [] }) => zero!.state === "ready" && zero!.pid !== first && one!.roles === true,
  );
  return workers![1]!.pid!;
}
