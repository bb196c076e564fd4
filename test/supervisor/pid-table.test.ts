import { afterAll, describe, expect, test } from "vitest";
import { ControlGroup } from "../support/control-group.js";
import { FaultInjector } from "../support/fault-injector.js";
import { Crowd } from "../support/crowd.js";
import { Supervised } from "../support/supervised.js";

const group = ControlGroup.open("pids");
afterAll(() => group.remove());

describe("where no process can be started", () => {
  test("the workers are started with the delays of a restart, and serve when they can be", async () => {
    const injector = new FaultInjector();
    injector.arm({ process: 0, function: "posix_spawn", calls: [1, 4], error: "EAGAIN" });
    const service = await Supervised.start("http.js", { environment: injector.env, backoff: 1 });
    expect((await service.workers()).map(({ restarts }) => restarts)).toEqual([2, 2]);
    expect(service.service.noise).toMatch(
      /^handover: worker 0 was not started: cannot start it, .*: spawn .* EAGAIN; it is started again now$/m,
    );
    await service.stop();
  });

  test("a service ends with 1 when its workers could not be started too often, and says why", async () => {
    const injector = new FaultInjector();
    injector.arm({ process: 0, function: "posix_spawn", calls: [1, 100], error: "EAGAIN" });
    const service = Supervised.begin("http.js", { environment: injector.env, restarts: 1, backoff: 1 });
    await service.ends(1);
    expect(service.service.noise).toMatch(/worker 1 has failed: .* EAGAIN; it is not started again$/m);
  });

  test.skipIf(group.isSkipped)(
    `the service goes on, an upgrade fails with the reason, and a worker that died is started when there is room${group.why}`,
    async () => {
      const service = await Supervised.start("http.js", { workers: 2, backoff: 10, restarts: 1_000 });
      const crowd = new Crowd(service.service, 4);
      await crowd.answered(10);
      const [first, second] = await service.pids();
      group.put(service.pid, 1);
      for (const ask of ["upgrade", "rehearse", "stage", "upgrade-supervisor"] as const) {
        await expect((await service.client()).ask({ command: ask })).rejects.toMatchObject({
          code: "ERR_SPAWN",
          message: expect.stringMatching(/EAGAIN/),
        });
      }
      expect(await service.pids()).toEqual([first, second]);
      process.kill(second!, "SIGKILL");
      await service.eventually(({ workers }) => workers![1]!.restarts > 2);
      await crowd.answered(40);
      group.limit("max");
      const { workers } = await service.settled();
      expect(workers!.map(({ state }) => state)).toEqual(["ready", "ready"]);
      await service.replace();
      await crowd.leave();
      expect(crowd.failures.filter((failure) => failure.includes("ECONNREFUSED"))).toEqual([]);
      await service.stop();
    },
  );
});
