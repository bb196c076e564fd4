import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text as readAll } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { Crowd } from "../support/crowd.js";
import { FaultInjector } from "../support/fault-injector.js";
import { temporaryDirectory } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

test("all workers share the port that the system chose, also over upgrades", async () => {
  const service = await Supervised.start("http.js", { workers: 3 });
  await service.replace();
  const ports = service.service.lines.flatMap(
    ({ address }) => (address as { port: number } | undefined)?.port ?? [],
  );
  expect(ports).toHaveLength(6);
  expect(new Set(ports).size).toBe(1);
  await service.stop();
});

test("the workers share a Unix socket, whose file goes with the service", async () => {
  const path = join(temporaryDirectory(), "socket");
  const service = await Supervised.start("http.js", { workers: 2, settings: { listen: { path } } });
  for (let generation = 0; generation < 2; generation++) {
    const pids = await service.pids();
    const met = new Set<number>();
    while (met.size < 2) met.add(await askUnix(path));
    expect(met).toEqual(new Set(pids));
    process.kill(pids[0]!, "SIGKILL");
    await service.eventually(({ workers }) => workers![0]!.pid !== pids[0] && workers![0]!.state === "ready");
    expect(existsSync(path)).toBe(true);
    await service.replace();
  }
  await service.stop();
  expect(existsSync(path)).toBe(false);
});

test("datagrams of a client reach the worker of one index, over upgrades", async () => {
  const service = await Supervised.start("udp-echo.js", { workers: 3 });
  const { answer } = await service.until("held");
  const clients = await Promise.all(
    Array.from({ length: 8 }, async (_, n) => startClient(n, (answer as { port: number }).port)),
  );
  for (let generation = 0; generation < 3; generation++) {
    for (const { ask } of clients) await ask(`in ${generation}`);
    for (const [n] of clients.entries()) {
      const first = await service.until("datagram", { text: `${n} in 0` });
      const now = await service.until("datagram", { text: `${n} in ${generation}` });
      expect(now).toMatchObject({ worker: first["worker"], generation });
    }
    await service.replace();
  }
  for (const { close } of clients) close();
  await service.stop();
});

test("where the kernel refuses the filter, its hash spreads connections and nothing is lost", async () => {
  const injector = new FaultInjector();
  const armed = join(temporaryDirectory(), "armed");
  writeFileSync(armed, "");
  const faults = [0, 1, 2].map((index) => ({ at: "initialized", how: "pause", generation: 0, index }));
  const service = Supervised.begin("supervisor/faulty-worker.js", {
    workers: 3,
    environment: injector.env,
    settings: { armed, faults },
  });
  // Each of them has its member, and none accepts.
  const paused = await Promise.all([0, 1, 2].map(async (worker) => service.until("fault", { worker })));
  rmSync(armed);
  injector.arm({ process: 0, function: "setsockopt", calls: [1, 100_000], error: "EPERM" });
  for (const { pid } of paused) process.kill(pid, "SIGUSR2");
  await service.settled();
  const crowd = new Crowd(service.service, 6);
  await crowd.answered(60);
  for (let generation = 1; generation <= 3; generation++) {
    await service.replace();
    await crowd.answered(60);
  }
  expect(crowd.failures).toEqual([]);
  const [pid] = await service.pids();
  process.kill(pid!, "SIGKILL");
  await service.eventually(({ workers }) => workers![0]!.pid !== pid && workers![0]!.state === "ready");
  await crowd.answered(60);
  await crowd.leave();
  expect(injector.counts(0)!.setsockopt.failed).toBeGreaterThan(3);
  expect(crowd.failures.filter((failure) => !/ECONNRESET|socket hang up/.test(failure))).toEqual([]);
  await service.stop();
});

describe("a listener that only new workers have opened", () => {
  test("is closed after a rehearsal, and when they are no longer staged", async () => {
    const plans = [[listen("old")], [listen("old"), listen("new")]];
    const service = await Supervised.start("listens-by-plan.js", { settings: { plans } });
    await (await service.client()).ask({ command: "rehearse" });
    expect(await names(service)).toEqual(["old"]);
    await (await service.client()).ask({ command: "stage" });
    expect(await names(service)).toEqual(["old", "new"]);
    await (await service.client()).ask({ command: "unstage" });
    expect(await names(service)).toEqual(["old"]);
    await service.replace();
    expect(await names(service)).toEqual(["old", "new"]);
    await service.stop();
  });

  test("is closed after a rollback, and clients reach the old workers", async () => {
    const service = await Supervised.start("listens-by-plan.js", {
      probation: 60_000,
      settings: { plans: [[listen("old")], [listen("new")]] },
    });
    const pids = await service.pids();
    const { address } = await service.until("held");
    const { answer, committed } = await service.beginUpgrade();
    await committed;
    const { pid } = await service.until("accepting", { generation: 1 });
    process.kill(pid, "SIGKILL");
    await expect(answer).rejects.toMatchObject({ code: "ERR_ROLLED_BACK" });
    expect(await names(service)).toEqual(["old"]);
    const { port } = address as { port: number };
    for (let n = 0; n < 10; n++) expect(pids).toContain(Number(await readAll(connect(port, "127.0.0.1"))));
    await service.stop();
  });
});

test("a listener of one worker is closed when the number of workers no longer reaches its index", async () => {
  const plans = [[listen("all"), { ...listen("last"), index: 1 }]];
  const service = await Supervised.start("listens-by-plan.js", { settings: { plans } });
  expect((await names(service)).toSorted()).toEqual(["all", "last"]);
  await service.scale(1);
  expect(await names(service)).toEqual(["all"]);
  await service.scale(2);
  expect(await names(service)).toEqual(["all", "last"]);
  await service.stop();
});

function listen(name: string): object {
  return { name, port: 0, host: "127.0.0.1" };
}

async function names(service: Supervised): Promise<string[]> {
  return (await service.status()).listeners.map(({ name }) => name);
}

async function askUnix(path: string): Promise<number> {
  const socket = connect({ path });
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  await once(socket, "end");
  return Number(text.split("\r\n\r\n")[1]);
}

async function startClient(
  n: number,
  port: number,
): Promise<{ ask: (text: string) => Promise<void>; close: () => void }> {
  const socket = createSocket("udp4");
  socket.connect(port, "127.0.0.1");
  await once(socket, "connect");
  return {
    ask: async (text) => {
      const answered = once(socket, "message");
      socket.send(`${n} ${text}`);
      const [data] = (await answered) as [Buffer];
      expect(data.toString()).toBe(`${n} ${text}`);
    },
    close: () => socket.close(),
  };
}

test("a descriptor that a worker has added moves to the next worker of its index, and one of a worker that failed does not", async () => {
  const [armed, dies] = ["armed", "dies"].map((name) => join(temporaryDirectory(), name)) as [string, string];
  const service = await Supervised.start("supervisor/adds-files.js", {
    workers: 1,
    probation: 1_000,
    settings: { armed, dies },
  });
  const upgrade = async (): Promise<unknown> => {
    const from = service.service.lines.length;
    await service.upgrade().catch(() => {});
    await service.settled();
    return (await service.until("inherits", {}, from))["names"];
  };
  for (const file of [armed, dies]) writeFileSync(file, "");
  expect(await upgrade()).toEqual(["own"]);
  expect((await service.status()).generation).toBe(0);
  rmSync(dies);
  // What the worker has added that was rolled back is gone with it.
  expect(await upgrade()).toEqual(["own"]);
  rmSync(armed);
  expect(await upgrade()).toEqual(["extra", "own"]);
  // A worker that crashes leaves them to the next one, too.
  const from = service.service.lines.length;
  process.kill((await service.pids())[0]!, "SIGKILL");
  expect((await service.until("inherits", {}, from))["names"]).toEqual(["extra", "own"]);
  await service.settled();
  await service.stop();
});
