import { describe, expect, test } from "vitest";
import { HangWatch } from "../../dist/supervisor/hang-watch.js";
import type { WorkerProcess } from "../../dist/supervisor/worker-process.js";
import { ManualClock } from "../support/fake-env.js";
import { Supervised } from "../support/supervised.js";

/** Asks many times at once, each time on a connection of its own. Returns the PIDs that answer, each once. */
async function askAll(service: Supervised, times = 40): Promise<Set<number>> {
  const answers = await Promise.all(Array.from({ length: times }, async () => service.service.ask()));
  return new Set(answers.map(Number));
}

describe("a worker that hangs", () => {
  test("is steered away from and its queue lent while it is stopped, and gets connections again after", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 2 });
    const [first, second] = await service.pids();
    process.kill(second!, "SIGSTOP");
    expect(await askAll(service)).toEqual(new Set([first]));
    process.kill(second!, "SIGCONT");
    await expect.poll(async () => askAll(service)).toEqual(new Set([first, second]));
    expect((await service.workers()).map(({ restarts }) => restarts)).toEqual([0, 0]);
    await service.stop();
  });

  test("is replaced after the hang timeout, and no request is refused", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 2, hangTimeout: 1_500 });
    const [first, second] = await service.pids();
    await service.tell(second!, "loop");
    expect(await askAll(service)).toEqual(new Set([first]));
    const { workers } = await service.eventually(
      ({ workers: [, one] = [] }) => one!.state === "ready" && one!.pid !== second,
    );
    expect(workers![1]).toMatchObject({ restarts: 1 });
    expect(workers![1]!.lastExit).toMatch(/it did not respond for \d+ ms, and was killed/);
    expect(workers![0]).toMatchObject({ pid: first, restarts: 0 });
    await expect.poll(async () => askAll(service)).toEqual(new Set([first, workers![1]!.pid]));
    await service.stop();
  });

  test("is replaced although no other worker serves", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 2, hangTimeout: 1_000 });
    const olds = await service.pids();
    for (const pid of olds) await service.tell(pid, "loop");
    const answers = [...(await askAll(service))];
    expect(answers.filter((pid) => olds.includes(pid))).toEqual([]);
    const { workers } = await service.eventually(({ workers: all }) =>
      all!.every(({ state, pid }) => state === "ready" && !olds.includes(pid!)),
    );
    expect(workers!.map(({ restarts }) => restarts)).toEqual([1, 1]);
    await service.stop();
  });

  test("a supervisor that was stopped takes no worker for one that hangs", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 2, hangTimeout: 500 });
    const pids = await service.pids();
    for (let n = 0; n < 3; n++) {
      process.kill(service.pid, "SIGSTOP");
      for (let m = 0; m < 5; m++) await askAll(service);
      process.kill(service.pid, "SIGCONT");
      expect(await service.pids()).toEqual(pids);
    }
    expect((await service.workers()).map(({ restarts }) => restarts)).toEqual([0, 0]);
    await service.stop();
  });
});

describe("the watch", () => {
  test("replaces one worker at a time: the next one when the first accepts again", () => {
    const service = new FakeService(3);
    service.silence([0, 1], 30_000);
    expect(service.killed).toEqual([0]);
    service.dies(0);
    service.silence([1], 30_250);
    service.restarts(0, false);
    service.silence([1], 30_500);
    expect(service.killed).toEqual([0]);
    service.restarts(0, true);
    service.silence([1], 30_750);
    expect(service.killed).toEqual([0, 1]);
  });

  test("replaces the next one when a worker that is no restart has the place of the first, as after an upgrade", () => {
    const service = new FakeService(2);
    service.silence([0, 1], 30_000);
    service.dies(0);
    service.installs(0, true);
    service.silence([1], 30_250);
    expect(service.killed).toEqual([0, 1]);
  });

  test("does not wait for a worker that dies again, or is not started again", () => {
    const service = new FakeService(3);
    service.silence([0], 30_000);
    service.dies(0);
    service.records[0]!.restarts = 2;
    service.silence([1], 30_000);
    service.records[1]!.hasFailed = true;
    service.silence([2], 30_000);
    expect(service.killed).toEqual([0, 1, 2]);
  });

  test("steers away after three missed heartbeats, and from no one where all are silent", () => {
    const service = new FakeService(2);
    service.silence([0], 500);
    expect(service.serving()).toEqual([0, 1]);
    service.silence([0], 750);
    expect(service.serving()).toEqual([1]);
    service.silence([1], 750);
    expect(service.serving()).toEqual([0, 1]);
    service.silence([0], 0);
    expect(service.serving()).toEqual([0]);
    expect(service.changes).toBe(3);
  });

  test("counts a silence anew after a pause of the supervisor", () => {
    const service = new FakeService(2);
    service.silence([0], 29_750);
    service.clock.advance(3_600_000);
    service.silence([0], 30_250);
    expect(service.killed).toEqual([]);
    expect(service.serving()).toEqual([0, 1]);
    service.silence([0], 60_000);
    expect(service.killed).toEqual([]);
    service.silence([0], 60_250);
    expect(service.killed).toEqual([0]);
  });

  test("replaces no worker under a debugger, and none if the hang timeout is 0", () => {
    const inspected = new FakeService(2);
    inspected.workers[0]!.isInspected = true;
    inspected.silence([0], 3_600_000);
    expect(inspected.serving()).toEqual([1]);
    const off = new FakeService(2, 0);
    off.silence([0], 3_600_000);
    expect(off.serving()).toEqual([1]);
    expect([...inspected.killed, ...off.killed]).toEqual([]);
  });

  test("kills a worker that was replaced and hangs in its drain", () => {
    const service = new FakeService(2);
    const retired = { index: 0, pid: 99, isAccepting: false, fail: () => service.killed.push(99) };
    service.retired.push(retired as unknown as WorkerProcess);
    service.watch.onSilence(retired as unknown as WorkerProcess, 30_000);
    expect(service.killed).toEqual([99]);
  });

  test("asks for a new worker beside one that is sick, and again where that was in vain", () => {
    const service = new FakeService(2);
    service.watch.setHealth(service.at(0), "GET /health: 503");
    expect(service.serving()).toEqual([1]);
    service.clock.advance(29_999);
    service.silence([0], 0);
    expect(service.replaced).toEqual([]);
    service.clock.advance(1);
    service.silence([0], 0);
    service.silence([0], 0);
    expect(service.replaced).toEqual([0]);
    service.clock.advance(30_000);
    service.silence([0], 0);
    expect(service.replaced).toEqual([0, 0]);
    service.watch.setHealth(service.at(0), undefined);
    expect(service.serving()).toEqual([0, 1]);
    service.clock.advance(30_000);
    service.silence([0], 0);
    expect(service.replaced).toEqual([0, 0]);
    expect(service.killed).toEqual([]);
  });
});

type FakeWorker = { -readonly [K in "index" | "pid" | "isAccepting" | "isInspected"]: WorkerProcess[K] };

interface FakeRecord {
  current: WorkerProcess | undefined;
  restarts: number;
  hasFailed: boolean;
}

/** Workers whose silence the test decides. */
class FakeService {
  readonly clock = new ManualClock();
  readonly killed: number[] = [];
  readonly replaced: number[] = [];
  readonly retired: WorkerProcess[] = [];
  readonly records: FakeRecord[] = [];
  readonly workers: FakeWorker[];
  readonly watch: HangWatch;
  changes = 0;

  constructor(count: number, hangTimeout = 30_000) {
    this.workers = Array.from({ length: count }, (_, index) => {
      const fail = (): void => void this.killed.push(index);
      return { index, pid: 10 + index, isAccepting: true, isInspected: false, fail };
    });
    for (const index of this.workers.keys()) {
      const record = { current: this.at(index), restarts: 0, hasFailed: false };
      this.records.push(record);
    }
    this.watch = new HangWatch({
      clock: this.clock,
      hangTimeout,
      pool: {
        indexes: [...this.workers.keys()],
        records: this.records,
        retired: this.retired,
        isCurrent: (worker) => this.records[worker.index]!.current === worker,
        acceptor: (index) => {
          const { current } = this.records[index]!;
          return current?.isAccepting === true ? current : undefined;
        },
      },
      changed: () => this.changes++,
      replace: ({ index }) => this.replaced.push(index) > 0,
    });
  }

  at(index: number): WorkerProcess {
    return this.workers[index] as unknown as WorkerProcess;
  }

  silence(indexes: number[], ms: number): void {
    for (const index of indexes) this.watch.onSilence(this.at(index), ms);
  }

  serving(): number[] {
    return [...this.workers.keys()].filter((index) => this.watch.isServing(index));
  }

  dies(index: number): void {
    this.records[index]!.current = undefined;
  }

  restarts(index: number, isAccepting: boolean): void {
    this.installs(index, isAccepting);
    this.records[index]!.restarts = 1;
  }

  installs(index: number, isAccepting: boolean): void {
    this.workers[index] = { ...this.workers[index]!, isAccepting };
    this.records[index]!.current = this.at(index);
  }
}
