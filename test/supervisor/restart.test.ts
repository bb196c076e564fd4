import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Crowd } from "../support/crowd.js";
import { temporaryDirectory } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

test("workers that are killed under load refuse no connection, and each is started again", async () => {
  const service = await Supervised.start("http.js", { workers: 4, backoff: 0, restarts: 1_000 });
  const crowd = new Crowd(service.service, 8);
  for (let n = 0; n < 8; n++) {
    await crowd.answered(50);
    const index = n % 4;
    const { pid } = (await service.workers())[index]!;
    process.kill(pid!, "SIGKILL");
    await service.eventually(({ workers }) => {
      const worker = workers![index]!;
      return worker.state === "ready" && worker.pid !== pid;
    });
  }
  await crowd.leave();
  expect(crowd.failures.filter((failure) => !/ECONNRESET|socket hang up/.test(failure))).toEqual([]);
  // Each of them was on a connection to one of the eight.
  expect(crowd.failures.length).toBeLessThanOrEqual(8 * 8);
  const workers = await service.workers();
  expect(workers.map(({ restarts }) => restarts)).toEqual([2, 2, 2, 2]);
  expect(workers[0]!.lastExit).toMatch(/was killed by SIGKILL/);
  await service.stop();
});

test("the only worker is killed: clients wait for the next one", async () => {
  const service = await Supervised.start("http.js", { workers: 1 });
  const [pid] = await service.pids();
  process.kill(pid!, "SIGKILL");
  await service.eventually(({ workers }) => workers![0]!.pid !== pid);
  expect(Number(await service.service.ask())).toBe((await service.pids())[0]);
  await service.stop();
});

test("a worker that dies too often has failed, the others serve, and an upgrade starts it again", async () => {
  const { service, disarm } = await startDying([0], { restarts: 2, backoff: 0 });
  const { workers, state } = await service.eventually((status) => status.workers![0]!.state === "failed");
  expect(state).toBe("ready");
  expect(workers![0]).toMatchObject({ restarts: 2, lastExit: expect.stringContaining("thrown by the test") });
  const { pid } = workers![1]!;
  for (let n = 0; n < 10; n++) expect(await service.service.ask()).toBe(String(pid));
  expect(service.service.noise).toMatch(
    /worker 0 .* has failed: .*thrown by the test.*it is not started again/,
  );
  disarm();
  const { workers: after } = await service.replace();
  expect(after!.map((one) => one.state)).toEqual(["ready", "ready"]);
  await service.stop();
});

test("a service whose workers have all failed ends with code 1", async () => {
  const { service } = await startDying([0, 1], { restarts: 1, backoff: 0 });
  await service.ends(1);
  expect(service.service.noise).toContain("every worker has failed: the service ends");
});

test("an upgrade starts a worker that waits for its restart", async () => {
  const { service, disarm } = await startDying([0], { backoff: 30_000 });
  await service.eventually(({ workers }) => workers![0]!.state === "waiting" && workers![0]!.restarts === 2);
  disarm();
  const { workers } = await service.replace();
  expect(workers!.map(({ state }) => state)).toEqual(["ready", "ready"]);
  await service.stop();
});

/** A service whose workers of these indexes throw at their start, until it is disarmed. */
async function startDying(
  indexes: number[],
  limits: { restarts?: number; backoff: number },
): Promise<{ service: Supervised; disarm: () => void }> {
  const armed = join(temporaryDirectory(), "armed");
  writeFileSync(armed, "");
  const faults = indexes.map((index) => ({ at: "start", how: "throw", generation: 0, index }));
  const service = Supervised.begin("supervisor/faulty-worker.js", { ...limits, settings: { armed, faults } });
  return { service, disarm: () => rmSync(armed) };
}
