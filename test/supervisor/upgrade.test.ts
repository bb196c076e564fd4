import { once } from "node:events";
import { connect } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import { selfSigned } from "../support/client.js";
import { MixedLoad } from "../support/mixed-load.js";
import type { Line } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

test.each([2, 3])("ten upgrades of %i workers under load lose nothing and close nothing", async (workers) => {
  const service = await Supervised.start("../soak/server.js", { workers, probation: 1 });
  const load = await MixedLoad.on(service.service);
  for (let n = 1; n <= 10; n++) {
    expect((await service.replace()).generation).toBe(n);
    await load.answered(20);
  }
  expect(await load.stop()).toEqual([]);
  await service.stop();
  expect(service.service.noise).toBe("");
});

test("a worker has loaded cryptography before it is replaced, as its first offer needs it", async () => {
  const preload = new URL("../fixtures/tells-modules-of-drain.js", import.meta.url);
  const environment = { NODE_OPTIONS: `--import ${preload.href}` };
  const service = await Supervised.start("http.js", { workers: 1, environment });
  const [pid] = await service.pids();
  await service.replace();
  expect(await service.until("modules", { pid: pid! })).toMatchObject({ hasCrypto: true });
  await service.stop();
});

describe("state", () => {
  test("a slot moves from the old worker of an index to the new one", async () => {
    const each = { 1: { subscribe: [["a", "s"]] } };
    const service = await Supervised.start("obeys-slots.js", { workers: 3, settings: { each } });
    const olds = await service.pids();
    for (const [index, pid] of olds.entries()) await service.tell(pid, "initiate", "a", { index });
    await service.replace();
    for (const [worker, pid] of (await service.pids()).entries())
      expect(await service.until("took", { pid })).toMatchObject({ worker, data: { index: worker } });
    for (const [worker, pid] of olds.entries())
      expect(await service.until("outcome", { pid })).toMatchObject({ worker, how: "taken" });
    await service.stop();
  });

  test("a unit moves from the old worker of an index to the new one, with a growing fence", async () => {
    const service = await Supervised.start("obeys-units.js", { workers: 3 });
    for (const [index, pid] of (await service.pids()).entries())
      await service.tell(pid, "start", `unit ${index}`);
    for (let generation = 1; generation <= 2; generation++) {
      const from = service.service.lines.length;
      await service.replace();
      for (const [worker, pid] of (await service.pids()).entries()) {
        const ran = await service.until("run", { pid }, from);
        expect(ran).toMatchObject({ worker, generation, id: `unit ${worker}`, runs: generation + 1 });
      }
    }
    for (const worker of [0, 1, 2]) {
      const fences = linesOf(service, "run", { worker }).map(({ fence }) => Number(fence));
      expect(fences).toEqual([...new Set(fences)].toSorted((a, b) => a - b));
    }
    await service.stop();
  });
});

describe("the roles", () => {
  test("one worker at a time holds the roles over upgrades and crashes, with growing fences", async () => {
    const service = await Supervised.start("obeys-roles.js", {
      workers: 3,
      settings: { roles: ["a"] },
      backoff: 0,
    });
    await service.until("acquired");
    for (let n = 0; n < 3; n++) {
      await service.replace();
      await loseHolder(service);
    }
    await service.stop();
    expect(expectOneHolder(service)).toBeGreaterThanOrEqual(7);
  });

  test("the old holder has the roles again after a rollback", async () => {
    const service = await Supervised.start("obeys-roles.js", {
      workers: 2,
      probation: 60_000,
      settings: { roles: ["a"] },
    });
    const holder = await service.until("acquired");
    for (let n = 1; n <= 2; n++) {
      const from = service.service.lines.length;
      const { answer, committed } = await service.beginUpgrade();
      const taker = await service.until("acquired", { generation: 1 }, from);
      // Before all new workers accept there would be nothing to roll back.
      await committed;
      process.kill(taker.pid, "SIGKILL");
      await expect(answer).rejects.toMatchObject({ code: "ERR_ROLLED_BACK" });
      await service.until("acquired", { pid: holder.pid }, from);
    }
    await service.stop();
    expect(expectOneHolder(service)).toBe(5);
  });
});

test("a TLS session that one worker has given is resumed by every other one, over upgrades", async () => {
  const service = await Supervised.start("any-protocol.js", {
    workers: 3,
    settings: { ...selfSigned(), protocol: "https" },
  });
  const { port } = await service.until("accepting");
  let { session } = await visit(port as number);
  for (let generation = 0; generation < 2; generation++) {
    const met = new Set<string>();
    while (met.size < 3) {
      const seen = await visit(port as number, session);
      expect(seen.isReused).toBe(true);
      met.add(seen.by);
      session = seen.session;
    }
    await service.replace();
  }
  await service.stop();
});

function linesOf({ service }: Supervised, event: string, fields: Partial<Line>): Line[] {
  return service.lines.filter(
    (line) => line.event === event && Object.entries(fields).every(([name, value]) => line[name] === value),
  );
}

/** Kills the worker that holds the roles, and waits until another has them and every worker accepts. */
async function loseHolder(service: Supervised): Promise<void> {
  const from = service.service.lines.length;
  const { pid } = (await service.workers()).find(({ roles }) => roles === true)!;
  process.kill(pid!, "SIGKILL");
  await service.until("acquired", {}, from);
  await service.settled();
}

/**
 * Sees that each process acquired the role after the one before had released it or was killed, and with a greater fence.
 * Returns how often it was acquired.
 */
function expectOneHolder({ service }: Supervised): number {
  const happened = service.lines
    .filter(({ event }) => event === "acquire" || event === "released")
    .toSorted((a, b) => Number(a["at"]) - Number(b["at"]));
  const acquired = happened.filter(({ event }) => event === "acquire");
  const fences = acquired.map(({ fence }) => Number(fence));
  expect(fences).toEqual([...new Set(fences)].toSorted((a, b) => a - b));
  const alive = new Set(service.lines.filter(({ event }) => event === "exited").map(({ pid }) => pid));
  const overlaps = happened.filter((line, n) => {
    const before = happened[n - 1];
    // One that was killed has released nothing.
    return line.event === "acquire" && before?.event === "acquire" && alive.has(before.pid);
  });
  expect(overlaps).toEqual([]);
  return acquired.length;
}

/** One connection of its own: who answered, whether it resumed a session, and the newest one to resume. */
async function visit(
  port: number,
  session?: Buffer,
): Promise<{ by: string; isReused: boolean; session: Buffer }> {
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false, ...(session && { session }) });
  onTestFinished(() => void socket.destroy());
  let newest = session;
  let text = "";
  socket.on("session", (one) => (newest = one)).on("data", (data) => (text += data.toString()));
  await once(socket, "secureConnect");
  socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  // With TLS 1.3 a session comes after the handshake.
  await once(socket, "end");
  return { by: text.split("\r\n\r\n")[1]!, isReused: socket.isSessionReused(), session: newest! };
}
