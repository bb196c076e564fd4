import { describe, expect, test } from "vitest";
import { MemoryWatch } from "../../dist/supervisor/memory-watch.js";
import type { WorkerProcess } from "../../dist/supervisor/worker-process.js";
import { deferred, type Deferred } from "../../dist/util/deferred.js";
import { ManualClock } from "../support/fake-env.js";
import { setImmediate as turn } from "node:timers/promises";
import { Supervised } from "../support/supervised.js";

describe("--max-memory", () => {
  test("replaces a worker that has grown, and its connections move to the new one", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 2, maxMemory: "200M" });
    const [first, second] = await service.pids();
    await service.tell(second!, "grow", 300);
    const noise = await service.service.untilNoise(/worker 1 .* of memory.*/);
    expect(noise).toMatch(
      /^worker 1 \(pid \d+\) has 3\d\d MiB of memory, over its limit of 200 MiB: a new one replaces it$/,
    );
    const { workers } = await service.eventually(
      ({ state, workers: [, one] = [] }) => state === "ready" && one!.pid !== second,
    );
    expect(workers).toMatchObject([{ pid: first }, { state: "ready", restarts: 0 }]);
    await service.until("exited", { pid: second!, outcome: "upgraded" });
    await service.stop();
  });

  test("leaves a worker that is over it at its start, and says so once", async () => {
    const settings = { heap: 100 };
    const service = await Supervised.start("obeys-work.js", { workers: 1, maxMemory: "50M", settings });
    const [pid] = await service.pids();
    expect(await service.service.untilNoise(/worker 0 .* at its start.*/)).toMatch(
      /over its limit of 50 MiB at its start: raise --max-memory; it is not replaced$/,
    );
    expect(await service.pids()).toEqual([pid]);
    await service.stop();
  });
});

describe("the watch of the memory", () => {
  test("replaces workers that are over the limit together one after the other", async () => {
    const service = new FakeService(3);
    service.watch.start();
    service.memory.fill(200);
    await service.looks();
    expect(service.renewed).toEqual([0]);
    await service.looks();
    expect(service.renewed).toEqual([0]);
    for (const expected of [
      [0, 1],
      [0, 1, 2],
    ]) {
      service.finish();
      await turn();
      expect(service.renewed).toEqual(expected);
    }
  });

  test("waits while the service is busy, and replaces the worker of an index once a minute at most", async () => {
    const service = new FakeService(1);
    service.watch.start();
    service.memory.fill(200);
    service.isBusy = true;
    await service.looks();
    expect(service.renewed).toEqual([]);
    service.isBusy = false;
    await service.looks();
    service.finish();
    await turn();
    for (let n = 0; n < 5; n++) await service.looks();
    expect(service.renewed).toEqual([0]);
    await service.looks();
    expect(service.renewed).toEqual([0, 0]);
  });

  test("leaves a worker that was over the limit at its start, and one that has exited, and ends at a stop during a replacement", async () => {
    const service = new FakeService(3);
    service.watch.start();
    service.memory[0] = 200;
    service.watch.begin(service.workers[0]!);
    service.memory.fill(200);
    service.memory[1] = undefined;
    await service.looks();
    expect(service.renewed).toEqual([2]);
    service.watch.stop();
    service.finish();
    await turn();
    expect(service.clock.size).toBe(0);
  });
});

/** Workers whose memory the test decides, in MiB. The limit is 100. */
class FakeService {
  readonly clock = new ManualClock();
  readonly renewed: number[] = [];
  readonly workers: WorkerProcess[];
  readonly memory: (number | undefined)[];
  readonly watch: MemoryWatch;
  isBusy = false;
  #renewing: Deferred<void> | undefined;

  constructor(count: number) {
    this.memory = Array.from({ length: count }, () => 50);
    this.workers = [...this.memory.keys()].map((index) => ({ index, pid: index }) as WorkerProcess);
    this.watch = new MemoryWatch({
      clock: this.clock,
      maxMemory: 100 * 2 ** 20,
      workers: () => this.workers,
      memoryOf: (pid) => this.memory[pid] && this.memory[pid] * 2 ** 20,
      renew: ({ index }) => {
        if (this.isBusy) return undefined;
        this.renewed.push(index);
        this.#renewing = deferred();
        return this.#renewing.promise;
      },
    });
  }

  async looks(): Promise<void> {
    this.clock.advance(10_000);
    await turn();
  }

  finish(): void {
    this.#renewing!.resolve();
  }
}
