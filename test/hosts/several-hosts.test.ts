import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Actor } from "../support/actor.js";
import { ENGINES, startEngine, type EngineServer, type KeptSeat } from "../support/engines.js";
import { handover, jsonLines } from "../support/program.js";
import { temporaryDirectory } from "../support/service.js";

let server!: EngineServer;

let services = 0;

/** Starts processes of one service, each a host of its own. */
function service(lease = 12_000): { start: (settings?: object) => Promise<Actor>; name: string } {
  const name = `several ${services++}`;
  let hosts = 0;
  const database = server.database({ service: name, lease });
  const start = async (settings: object = {}): Promise<Actor> =>
    Actor.start("on-several-hosts.js", { database, address: `10.0.0.${++hosts}:80`, ...settings });
  return { start, name };
}

/** Waits until the engine knows that this number of processes take units. */
async function know(name: string, count: number): Promise<void> {
  await expect
    .poll(async () => (await server.seats(name)).filter(({ draining }) => !draining))
    .toHaveLength(count);
}

const ids = (count: number): string[] => Array.from({ length: count }, (_, n) => `r${n}`);

describe.each(ENGINES)("over %s", (engine) => {
  beforeAll(async () => {
    server = await startEngine(engine);
  });
  afterAll(async () => server.remove());

  describe("a unit of all hosts", () => {
    test("a unit runs on one host, and the others say where", async () => {
      const { start, name } = service();
      const [a, b] = [await start(), await start()];
      await know(name, 2);
      await a.tell("start", "x");
      await expect(b.tell("start", "x")).rejects.toMatchObject({
        code: "ERR_ELSEWHERE",
        owner: { pid: a.pid, address: "10.0.0.1:80" },
      });
      expect(await b.tell("where", "x")).toMatchObject({ pid: a.pid, address: "10.0.0.1:80" });
      const hosts = async (): Promise<unknown> =>
        jsonLines(await handover("status", a.pid, "--json"))[0]!["hosts"];
      await expect.poll(hosts).toMatchObject({
        engine: server.name,
        lease: "held",
        offered: 0,
        parked: 0,
        peers: [{ pid: b.pid }],
      });
      const { stdout } = await handover("status", a.pid);
      expect(stdout).toMatch(
        new RegExp(
          `${server.name} "several \\d+", seat [-0-9a-f]+, lease held, .* left, 0 offered, 0 parked`,
        ),
      );
      await a.tell("release", "x");
      expect(await a.tell("where", "x")).toBeUndefined();
      await b.tell("start", "x");
      const [first, second] = [a.said("run")[0]!, b.said("run")[0]!];
      expect(second["fence"]).toBeGreaterThan(first["fence"] as number);
    });

    test("a unit is not started before ready(), as the process is no host yet", async () => {
      const { start } = service();
      const a = await start({ early: true });
      expect(a.said("refused")).toMatchObject([
        {
          code: "ERR_NOT_READY",
          message: 'cannot start unit room "early": this process is not ready yet',
        },
      ]);
      await a.tell("start", "early");
    });

    test("a stop without a successor moves units to another host, with their state and their role", async () => {
      const { start, name } = service();
      const a = await start();
      await a.says("acquired");
      const b = await start();
      await know(name, 2);
      await a.tell("startAll", ids(50));
      await a.tell("visit", "r7");
      a.kill("SIGTERM");
      const { units } = await a.leaves("stopped");
      expect(units).toMatchObject({ room: { moved: 50, stopped: 0, failed: 0, peers: 1, failures: {} } });
      expect(await b.tell("get", "r7")).toEqual({ visits: 1 });
      expect(await b.tell("size")).toBe(50);
      for (const { id, fence, at } of a.said("abort")) {
        const run = b.said("run").find((one) => one["id"] === id)!;
        expect(run["fence"]).toBeGreaterThan(fence as number);
        expect(run["at"]).toBeGreaterThanOrEqual(at as number);
      }
      const acquired = await b.says("acquired");
      expect(acquired["at"]).toBeGreaterThanOrEqual(a.said("released")[0]!["at"] as number);
      expect(acquired["fence"]).toBeGreaterThan(a.said("acquired")[0]!["fence"] as number);
      expect(await server.seats(name)).toHaveLength(1);
    });

    test("units that no other host takes are stopped where they are, with their state", async () => {
      const { start, name } = service();
      const a = await start();
      await start({ refuses: ["r0", "r1"] });
      await know(name, 2);
      await a.tell("startAll", ids(4));
      a.kill("SIGTERM");
      const { units } = await a.leaves("stopped");
      expect(units).toMatchObject({ room: { moved: 2, stopped: 2, failures: { ERR_REFUSED: 2 } } });
      // Two refusals may come in any order.
      expect(
        a
          .said("stop")
          .map(({ id, visits }) => `${id as string} ${visits as number}`)
          .toSorted(),
      ).toEqual(["r0 0", "r1 0"]);
    });

    test("the last host of a service stops its units", async () => {
      const { start } = service();
      const a = await start();
      await a.tell("startAll", ids(3));
      a.kill("SIGTERM");
      const { units } = await a.leaves("stopped");
      expect(units).toMatchObject({ room: { moved: 0, stopped: 3, peers: 0 } });
      expect(a.said("stop")).toHaveLength(3);
    });

    test("a host that dies loses its units and its role to another one, with higher fences", async () => {
      const { start } = service(4_000);
      const a = await start();
      await a.says("acquired");
      const b = await start({ recovers: true });
      await a.tell("startAll", ["x", "dropped"]);
      a.kill();
      const recovered = await b.says("run", { id: "x" });
      expect(recovered).toMatchObject({ visits: -1 });
      expect(recovered["fence"]).toBeGreaterThan(a.said("run")[0]!["fence"] as number);
      const acquired = await b.says("acquired");
      expect(acquired["fence"]).toBeGreaterThan(a.said("acquired")[0]!["fence"] as number);
      await expect.poll(async () => b.tell("where", "dropped")).toBeUndefined();
    });

    test("a process that cannot renew its lease aborts its units and releases its role before another host has them", async () => {
      const { start, name } = service(4_000);
      const a = await start();
      await a.says("acquired");
      await a.tell("start", "x");
      const b = await start({ recovers: true });
      await know(name, 2);
      a.kill("SIGSTOP");
      const run = await b.says("run", { id: "x" });
      await b.says("acquired");
      a.kill("SIGCONT");
      await a.says("abort", { id: "x" });
      await a.says("released");
      await a.says("failed", { code: "ERR_LEASE" });
      expect(run["fence"]).toBeGreaterThan(a.said("run")[0]!["fence"] as number);
      // It takes part again, as another one, as soon as the engine has answered.
      const again = async (): Promise<unknown> =>
        a.tell("start", "x").catch(({ code }: { code: string }) => code);
      await expect.poll(again).toBe("ERR_ELSEWHERE");
    });
  });

  describe("an upgrade in place of one of several hosts", () => {
    test("an upgrade in place writes nothing about units and roles, and keeps the seat", async () => {
      const { start, name } = service();
      const a = await start();
      await a.says("acquired");
      await a.tell("startAll", ids(20));
      const before = await server.rows(name);
      expect(before).toHaveLength(22);
      const b = await a.upgrade();
      expect((await a.leaves())["units"]).toMatchObject({ room: { moved: 20 } });
      const acquired = await b.says("acquired");
      expect(await b.tell("size")).toBe(20);
      expect(await server.rows(name)).toEqual(before);
      expect(acquired["fence"]).toBeGreaterThan(a.said("acquired")[0]!["fence"] as number);
      // It beats for the seat.
      await expect.poll(async () => server.seats(name)).toMatchObject([{ pid: b.pid }]);
      // As long as its predecessor lives, it leaves the seat to that.
      await b.says("alone");
      b.kill("SIGTERM");
      await b.leaves("stopped");
      expect(await server.rows(name)).toMatchObject([{ what: "role" }]);
    });

    test("the first upgrade that adds the option exchange stops the units that become global, with their state", async () => {
      const joined = join(temporaryDirectory(), "joined");
      const database = server.database({ service: "joins" });
      const a = await Actor.start("joins-hosts.js", { database, joined });
      await a.tell("start", "x", 3);
      writeFileSync(joined, "");
      const b = await a.upgrade();
      expect(await a.says("stop")).toMatchObject({ id: "x", visits: 3 });
      await a.leaves();
      expect(await b.tell("get", "x")).toBe("nothing");
      // The next release has the state from where stop() has left it.
      await b.tell("start", "x", 3);
      expect(await b.tell("get", "x")).toEqual({ visits: 3 });
    });

    test("a rollback brings the units, the role and the seat back", async () => {
      const { start, name } = service();
      const a = await start({ probation: 3_000, dies: true });
      await a.says("acquired");
      await a.tell("startAll", ids(5));
      const [{ seat }] = (await server.seats(name)) as [KeptSeat];
      await a.service.upgrade("rollback");
      await expect.poll(async () => a.tell("size")).toBe(5);
      await expect.poll(() => a.said("acquired").length).toBe(2);
      const [first, second] = a.said("acquired");
      expect(second!["fence"]).toBeGreaterThan(first!["fence"] as number);
      expect(await server.seats(name)).toMatchObject([{ seat }]);
      expect(await a.tell("where", "r0")).toMatchObject({ pid: a.pid });
    });
  });

  describe("a slot of all hosts", () => {
    test("a value that is initiated at a stop is taken on another host that subscribes", async () => {
      const { start, name } = service();
      const a = await start({ parks: { count: 7 } });
      const b = await start({ subscribes: true });
      await know(name, 2);
      a.kill("SIGTERM");
      expect(await b.says("took")).toMatchObject({ data: { count: 7 } });
      expect(await a.says("slot")).toMatchObject({ how: "taken" });
      await a.leaves("stopped");
    });

    test("a value with a ttl waits for a host that starts later", async () => {
      const { start } = service();
      const a = await start({ parks: { count: 8 }, slotTimeout: 4_000 });
      a.kill("SIGTERM");
      expect(await a.says("slot")).toMatchObject({ how: "parked" });
      await a.leaves("stopped");
      const b = await start();
      expect(await b.tell("complete")).toEqual([{ count: 8 }]);
      expect(await b.tell("complete")).toEqual([]);
    });
  });
});
