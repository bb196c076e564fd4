import { connect } from "node:net";
import { afterAll, describe, expect, test, vi } from "vitest";
import { chooseRolling } from "../../dist/supervisor/rolling.js";
import { ControlGroup } from "../support/control-group.js";
import { MixedLoad } from "../support/mixed-load.js";
import { freePort } from "../support/port.js";
import { Supervised } from "../support/supervised.js";

const group = ControlGroup.open("memory");
afterAll(() => group.remove());

/** The new workers that were ready when the one of an index was started, by that index. */
function readyBefore({ service }: Supervised): Record<number, number[]> {
  const ready: number[] = [];
  const before: Record<number, number[]> = {};
  for (const { generation, event, worker } of service.lines) {
    if (generation !== 1) continue;
    if (event === "initialized") ready.push(Number(worker));
    if (event === "started") before[Number(worker)] = ready.toSorted((a, b) => a - b);
  }
  return before;
}

const memory = (available: number, ...sizes: (number | undefined)[]) => ({
  available: () => available,
  privateOf: (pid: number) => sizes[pid],
});

describe("--rolling", () => {
  test.each([1, 2])("an upgrade of four workers, %i at a time, loses nothing under load", async (rolling) => {
    const service = await Supervised.start("../soak/server.js", { workers: 4, rolling });
    const load = await MixedLoad.on(service.service);
    for (let n = 1; n <= 2; n++) {
      expect((await service.replace()).generation).toBe(n);
      await load.answered(20);
    }
    expect(await load.stop()).toEqual([]);
    await service.stop();
  });

  test.each([
    [1, { 0: [], 1: [0], 2: [0, 1], 3: [0, 1, 2] }],
    [3, { 3: [0, 1, 2] }],
  ])("starts %i new workers at a time, and further ones when these accept", async (rolling, expected) => {
    const service = await Supervised.start("obeys-work.js", { workers: 4, rolling });
    await service.replace();
    expect(readyBefore(service)).toMatchObject(expected);
    await service.stop();
  });

  test("a new worker of a later batch that is sick ends the upgrade there, and the earlier ones stay", async () => {
    const settings = { sick: { worker: 2, generation: 1, code: 503 } };
    const service = await Supervised.start("obeys-work.js", {
      workers: 4,
      rolling: 1,
      health: "/health",
      settings,
    });
    const olds = await service.pids();
    await expect(service.upgrade()).rejects.toThrow(
      /GET \/health answered 503.*; 2 of 4 workers have been replaced before, and stay$/,
    );
    const { workers, generation } = await service.settled();
    expect(workers!.map((worker) => worker.generation)).toEqual([1, 1, 0, 0]);
    expect(workers!.slice(2).map(({ pid }) => pid)).toEqual(olds.slice(2));
    expect(generation).toBe(1);
    expect(readyBefore(service)).toEqual({ 0: [], 1: [0], 2: [0, 1] });
    const serving = workers!.map(({ pid }) => String(pid));
    const answers = await Promise.all(
      olds.flatMap(() => Array.from({ length: 8 }, async () => service.service.ask())),
    );
    expect(answers.filter((pid) => !serving.includes(pid))).toEqual([]);
    await service.stop();
  });

  test("a new worker that dies on probation brings the old workers of its batch back", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 4, rolling: 2, probation: 30_000 });
    const olds = await service.pids();
    const upgrading = service.upgrade().catch((error: Error) => error.message);
    await service.until("accepting", { generation: 1, worker: 1 });
    const { pid } = await service.until("accepting", { generation: 1, worker: 0 });
    await service.tell(pid, "exit", 1);
    expect(await upgrading).toContain("the new process of worker 0 has died");
    const { workers, upgrades } = await service.settled();
    expect(workers!.map((worker) => worker.pid)).toEqual(olds);
    expect(upgrades!.at(-1)).toMatchObject({ outcome: "rolledBack" });
    await service.stop();
  });

  test("a stop between two batches ends the upgrade, although an old worker still drains", async () => {
    const port = await freePort();
    const service = await Supervised.start("supervisor/says-signals.js", {
      workers: 2,
      rolling: 1,
      settings: { port, drainTimeout: 60_000 },
    });
    const held = [];
    while (!service.service.lines.some(({ event, worker }) => event === "holding" && worker === 0)) {
      const from = service.service.lines.length;
      const client = connect(port, "127.0.0.1");
      client.write("GET /hold HTTP/1.1\r\nHost: here\r\n\r\n");
      held.push(client);
      await service.until("holding", {}, from);
    }
    const { answer } = await service.beginUpgrade();
    await service.eventually(({ generation }) => generation === 1);
    process.kill(service.pid, "SIGTERM");
    const why = "2 workers have been replaced before, and stay";
    await expect(answer).rejects.toMatchObject({
      code: "ERR_STOPPED",
      message: expect.stringContaining(`1 of ${why}`) as string,
    });
    const { upgrades } = await service.status();
    expect(upgrades!.at(-1)).toMatchObject({ outcome: "failed", code: "ERR_STOPPED" });
    for (const client of held) client.destroy();
    await service.ends(0);
  });

  test.skipIf(group.isSkipped)(
    `replaces one worker at a time where two sets of them have no room, and says so${group.why}`,
    async () => {
      const service = await Supervised.start("obeys-work.js", { workers: 2, settings: { heap: 300 } });
      group.put(service.pid, 720 * 2 ** 20);
      await service.replace();
      expect(readyBefore(service)).toEqual({ 0: [], 1: [0] });
      expect(service.service.noise).toMatch(
        /^handover: memory is short: [67]\d\d MiB are available, and 2 new workers beside the old ones need about [78]\d\d MiB; they are replaced one at a time$/m,
      );
      await service.stop();
    },
  );
});

describe("the number of workers at a time", () => {
  test("is that of all workers where the memory is enough for them, and a fifth more", () => {
    const said = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    expect(chooseRolling([0, 1], 2, memory(240, 100, 100))).toBe(2);
    expect(said).not.toHaveBeenCalled();
    expect(chooseRolling([0, 1], 2, memory(239, 100, 100))).toBe(1);
    expect(said).toHaveBeenCalledOnce();
    said.mockRestore();
  });

  test("counts each new worker as an old one, and needs to know the memory of some", () => {
    const said = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    expect(chooseRolling([0, 1, 2], 4, memory(480, 50, undefined, 150))).toBe(4);
    expect(chooseRolling([0, 1, 2], 4, memory(479, 50, undefined, 150))).toBe(1);
    said.mockRestore();
    expect(chooseRolling([0], 3, memory(0, undefined))).toBe(3);
    expect(chooseRolling([0], 1, memory(0, 100))).toBe(1);
  });
});
