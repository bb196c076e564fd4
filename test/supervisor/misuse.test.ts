import { once } from "node:events";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { freePort } from "../support/port.js";
import { Supervised } from "../support/supervised.js";

test("a program with an earlier version of handover is refused, and the service ends with the reason", async () => {
  const service = Supervised.begin("supervisor/earlier-version.js", { restarts: 0 });
  await service.ends(1);
  expect(service.service.noise).toMatch(
    /worker 0 .* has failed: the program uses handover 0\.0\.9, which cannot be a worker; its supervisor has \d/,
  );
});

test("a program without an Upgrader is killed after its time, and the service ends with the reason", async () => {
  const service = Supervised.begin("supervisor/no-upgrader.js", { readyTimeout: 1, restarts: 0 });
  await service.ends(1);
  expect(service.service.noise).toContain(
    "it was not ready within 1 ms, and was killed: its program has not created an Upgrader (handover run --auto is for one that does not know of handover); it is not started again",
  );
  expect(service.service.noise).toContain("every worker has failed: the service ends");
});

test("a worker that dies is named once in its line", async () => {
  const service = Supervised.begin("supervisor/starts-by-index.js", {
    workers: 1,
    restarts: 0,
    settings: { dies: [0] },
  });
  await service.ends(1);
  expect(service.service.noise).toMatch(
    /^handover: worker 0 \(pid \d+\) has failed: it exited with code 7; .*it is not started again$/m,
  );
});

test("a program is told of the options that it has given and that are the service's, and of no others", async () => {
  const silent = await Supervised.start("http.js", { probation: 100, settings: { drainTimeout: 1_000 } });
  const told = await Supervised.start("http.js", {
    probation: 100,
    settings: { probation: 7, maxDraining: 3 },
  });
  await Promise.all([silent.stop(), told.stop()]);
  expect(silent.service.noise).not.toContain("HANDOVER_WORKER");
  expect(told.service.noise).toContain(
    "are its supervisor's: probation (the service has 100 ms), maxDraining (the service has 4)",
  );
});

test("an upgrade is refused while a worker listens without handover, and nothing is started", async () => {
  const outside = await freePort();
  const service = await Supervised.start("unmanaged-listener.js", { workers: 1, settings: { outside } });
  const pids = await service.pids();
  const refused = {
    code: "ERR_UNMANAGED_LISTENER",
    message: expect.stringContaining(`tcp:127.0.0.1:${outside}`),
  };
  await expect(service.upgrade()).rejects.toMatchObject(refused);
  await expect((await service.client()).ask({ command: "rehearse" })).rejects.toMatchObject(refused);
  await expect((await service.client()).ask({ command: "stage" })).rejects.toMatchObject(refused);
  expect(await service.pids()).toEqual(pids);
  expect(service.service.alive()).toHaveLength(2);
  await service.stop();
});

test("of two upgrades at once one is refused", async () => {
  const service = await Supervised.start("http.js");
  const both = await Promise.allSettled([service.upgrade(), service.upgrade()]);
  expect(both.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  expect(both.find(({ status }) => status === "rejected")).toMatchObject({
    reason: { code: "ERR_UPGRADE_IN_PROGRESS" },
  });
  expect((await service.status()).generation).toBe(1);
  await service.stop();
});

test("an upgrade that its caller gives up ends, and leaves nothing", async () => {
  const service = await Supervised.start("http.js");
  const pids = await service.pids();
  await expect(service.upgrade(1)).rejects.toMatchObject({
    code: "ERR_UPGRADE_TIMEOUT",
    message: expect.stringContaining("was not ready within 1 ms"),
  });
  await service.settled();
  expect(await service.pids()).toEqual(pids);
  expect(service.service.alive()).toHaveLength(3);
  await service.replace();
  await service.stop();
});

test("a service whose port another program or service holds ends at once with 1, and says once who does", async () => {
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  const { port } = holder.address() as { port: number };
  const listen = { port, host: "127.0.0.1" };
  const late = Supervised.begin("http.js", { settings: { listen } });
  await late.ends(1);
  expect(late.service.noise).toBe(
    `handover: cannot listen on tcp:127.0.0.1:${port}: EADDRINUSE (held by pid ${process.pid}): the service ends\n`,
  );
  await new Promise((closed) => holder.close(closed));
  const first = await Supervised.start("http.js", { settings: { listen } });
  const second = Supervised.begin("http.js", { settings: { listen } });
  await second.ends(1);
  expect(second.service.noise).toMatch(/^handover: .*EADDRINUSE \(held by pid \d+\): the service ends\n$/);
  await first.replace();
  await first.stop();
});
