import { describe, expect, test } from "vitest";
import { HttpClients } from "../soak/http-client.js";
import { FaultInjector } from "../support/fault-injector.js";
import { Supervised } from "../support/supervised.js";

describe("a supervisor that has no free descriptor", () => {
  test("serves on when it is asked to upgrade itself", async () => {
    const injector = new FaultInjector();
    const service = await Supervised.start("http.js", { environment: injector.env });
    const pids = await service.pids();
    injector.arm({ process: 0, function: "socketpair", calls: 1, error: "EMFILE" });
    const upgrading = (await service.client()).ask({ command: "upgrade-supervisor" });
    await expect(upgrading).rejects.toMatchObject({
      code: "ERR_SPAWN",
      message: expect.stringMatching(/^cannot upgrade the supervisor: .*EMFILE/),
    });
    expect(await service.pids()).toEqual(pids);
    await service.stop();
  });

  test("serves on when connections are to move to another worker", async () => {
    const injector = new FaultInjector();
    const options = { workers: 1, environment: injector.env };
    const service = await Supervised.start("../soak/server.js", options);
    await service.until("accepting");
    const clients = new HttpClients(service.service.port, 60);
    await clients.begun;
    // The first one is that of the new worker.
    injector.arm({ process: 0, function: "socketpair", calls: 2, error: "EMFILE" });
    await service.scale(2);
    await expect.poll(() => injector.counts(0)!.socketpair.failed, { interval: 20 }).toBe(1);
    expect(await service.workers()).toMatchObject([{ state: "ready" }, { state: "ready" }]);
    await clients.stop();
    expect(clients.failures).toEqual([]);
    await service.stop();
  });
});
