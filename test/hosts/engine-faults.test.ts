import { setImmediate as turn } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import type { Settlement } from "../../dist/exchange/parcel.js";
import { Actor } from "../support/actor.js";
import { ENGINES, startEngine, type EngineServer } from "../support/engines.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, stateOf, takeRooms, untilPeers, type Host } from "../support/hosts.js";
import { handover } from "../support/program.js";
import { StallingProxy } from "../support/stalling-proxy.js";

let server!: EngineServer;

let services = 0;
const ids = (count: number): string[] => Array.from({ length: count }, (_, n) => `r${n}`);

/** Offers units, a few at a time; again if they could not be offered. Resolves with how often each was taken. */
async function drain(owner: Host, all: readonly string[]): Promise<Map<string, number>> {
  const taken = new Map<string, number>();
  const queue = [...all];
  const move = async (): Promise<void> => {
    for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
      const [offered] = owner.hosts.exchange.offer([parcel(id, { kind: "unit", label: "room" })]);
      const settlement: Settlement = await offered!.settled;
      if (settlement.how === "taken") taken.set(id, (taken.get(id) ?? 0) + 1);
      else queue.unshift(id);
      await turn();
    }
  };
  await Promise.all(Array.from({ length: 100 }, move));
  return taken;
}

/** A table of a program, which is written `where fence <= $fence`. */
class Table {
  by = "";
  fence = 0;

  write(by: string, fence: number): boolean {
    if (fence < this.fence) return false;
    [this.by, this.fence] = [by, fence];
    return true;
  }
}

/** A host with one unit, which writes its state when no other host takes it. `stop` waits until there is one. */
async function startWriting(): Promise<{ join: () => Host; table: Table; stop: () => void }> {
  const service = `faults ${services++}`;
  const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
  const owner = join();
  const state = stateOf(owner);
  const table = new Table();
  const rooms = state.units<string, string>("room", {
    scope: "global",
    version: 1,
    run: (_, room, { fence }) => (table.write("run", fence), room),
    freeze: (_, room) => room,
    stop: (_, room, { fence }) => table.write(`stop ${room}`, fence),
    drain: { unitTimeout: 50_000 },
  });
  await rooms.start("x", "of x");
  const begin = (): void => {
    const hosts = { exchange: owner.hosts.exchange, isSeatShared: Promise.resolve(false) };
    const context = new DrainContext(undefined, Promise.resolve(true), 600_000, hosts);
    onTestFinished(() => context.end());
    state.beginDrain(context);
    void state.drain(context, Promise.resolve());
  };
  return { join, table, stop: () => void untilPeers(owner, 1).then(begin) };
}

/** Waits until a process knows another one. */
async function untilKnown(a: Actor, other: Actor): Promise<void> {
  await expect.poll(async () => (await handover("status", a.pid)).stdout).toContain(`(pid ${other.pid} on `);
}

/** The offers that the engine keeps of a service. */
const offers = async (service: string): Promise<unknown[]> =>
  (await server.rows(service)).filter(({ what }) => what === "offer");

describe.each(ENGINES)("over %s", (engine) => {
  beforeAll(async () => {
    server = await startEngine(engine);
  });
  afterAll(async () => server.remove());

  describe("a database that fails while units move", () => {
    test.each(["killed and started again", "cut off again and again"])(
      "a database that is %s loses no unit, and no unit runs twice",
      async (how) => {
        const proxy = await StallingProxy.start(server.port);
        onTestFinished(() => proxy.close());
        const service = `faults ${services++}`;
        const join = (): Host => joinHosts(server.exchange({ service, at: proxy.port, lease: 60_000 }));
        const owner = join();
        const takers = [join(), join()];
        const running = takers.map((taker) => takeRooms(taker));
        await untilPeers(owner, 2);
        const all = ids(900);
        await owner.hosts.directory.own("room", all);
        const draining = drain(owner, all);
        for (let n = 1; n <= 3; n++) {
          await expect.poll(() => running[0]!.size + running[1]!.size).toBeGreaterThan(n * 150);
          if (how.startsWith("killed")) {
            await server.kill();
            await server.run();
          } else proxy.cut();
        }
        const taken = await draining;
        await expect.poll(async () => offers(service)).toEqual([]);
        expect([...taken.values()]).toEqual(all.map(() => 1));
        expect([...running[0]!, ...running[1]!].toSorted()).toEqual(all.toSorted());
      },
    );

    test("a database that does not answer at a stop is given up, and the units are stopped with their states", async () => {
      const proxy = await StallingProxy.start(server.port);
      onTestFinished(() => proxy.close());
      const service = `faults ${services++}`;
      const database = server.database({ service, at: proxy.port, lease: 12_000 });
      const a = await Actor.start("on-several-hosts.js", { database, unitTimeout: 3_000 });
      await a.tell("startAll", ids(20));
      const b = await Actor.start("on-several-hosts.js", { database });
      await expect.poll(async () => server.seats(service)).toHaveLength(2);
      proxy.stall();
      a.kill("SIGTERM");
      await expect.poll(() => a.said("stop").length).toBe(20);
      expect(b.said("run")).toEqual([]);
      const { units } = await a.leaves("stopped");
      expect(units).toMatchObject({ room: { moved: 0, stopped: 20 } });
    });
  });

  describe("a process that does not run for longer than its lease", () => {
    test("no write of a process that was stopped gets through with its old fence", async () => {
      const database = server.database({ service: `faults ${services++}`, lease: 2_000 });
      const a = await Actor.start("on-several-hosts.js", { database });
      await a.tell("start", "x");
      const b = await Actor.start("on-several-hosts.js", { database, recovers: true });
      a.kill("SIGSTOP");
      const { fence } = await b.says("run", { id: "x" });
      // Stands for the table of a program: update written set by = $1, fence = $2 where fence <= $2
      let written = 0;
      const write = (held: unknown): boolean => {
        if (written > Number(held)) return false;
        written = Number(held);
        return true;
      };
      expect(write(fence)).toBe(true);
      expect(write(a.said("run")[0]!["fence"])).toBe(false);
      a.kill("SIGCONT");
      await a.says("abort", { id: "x" });
      expect(await a.tell("get", "x")).toBe("nothing");
    });
  });

  describe("a unit that comes back, as no host keeps it", () => {
    test("what stop() writes is newer than what a host has written whose run has failed", async () => {
      const { join, table, stop } = await startWriting();
      let isWritten = false;
      join().hosts.exchange.subscribe("unit", "room", (_, { fence }) => {
        isWritten = table.write("run elsewhere", fence);
        throw new Error("it does not run");
      });
      stop();
      await expect.poll(() => table.by).toBe("stop of x");
      expect(isWritten).toBe(true);
    });

    test("what stop() writes is newer than what hosts have written that died with it, and older than what the next owner has", async () => {
      const { join, table, stop } = await startWriting();
      const fences: number[] = [];
      for (let n = 1; n <= 3; n++) {
        const dying = join();
        dying.hosts.exchange.subscribe("unit", "room", async (_, { fence }) => {
          fences.push(fence);
          table.write("run elsewhere", fence);
          return new Promise(() => {});
        });
        if (n === 1) stop();
        await expect.poll(() => fences).toHaveLength(n);
        await server.expire(dying.name().seat!);
        await dying.hosts.leave();
      }
      await expect.poll(() => table.by).toBe("stop of x");
      expect(table.fence).toBeGreaterThan(Math.max(...fences));
      const next = join();
      await expect.poll(async () => next.hosts.directory.where("room", "x")).toBeUndefined();
      const [owned] = await next.hosts.directory.own("room", ["x"]);
      expect((owned as { fence: number }).fence).toBeGreaterThan(table.fence);
    });
  });

  describe("a database whose answers are slow", () => {
    // One answer takes 400 ms.
    test("units that are started at once all run, though the answers about all of them take longer than unitTimeout", async () => {
      const proxy = await StallingProxy.start(server.port);
      onTestFinished(() => proxy.close());
      const database = server.database({ service: `faults ${services++}`, at: proxy.port, lease: 60_000 });
      const a = await Actor.start("on-several-hosts.js", { database, unitTimeout: 2_000 });
      await a.says("acquired");
      proxy.slow(200);
      const all = ids(600);
      expect(new Set((await a.tell("startAll", all)) as string[])).toEqual(new Set(["here"]));
      // The next one waits until the database knows that all of them were given up.
      await a.tell("releaseAll", all);
      expect(await a.tell("startAll", ["x"])).toEqual(["here"]);
    });

    test("a start is late when the database has answered nothing for unitTimeout", async () => {
      const proxy = await StallingProxy.start(server.port);
      onTestFinished(() => proxy.close());
      const database = server.database({ service: `faults ${services++}`, at: proxy.port, lease: 60_000 });
      const a = await Actor.start("on-several-hosts.js", { database, unitTimeout: 2_000 });
      await a.says("acquired");
      proxy.stall();
      await expect(a.tell("start", "x")).rejects.toMatchObject({
        code: "ERR_UNIT",
        message: 'cannot start unit room "x": the engine of the hosts did not answer within 2000 ms',
      });
      proxy.goOn();
    });
  });

  describe("what else may go wrong", () => {
    test("a unit with which three hosts have died is not offered to a fourth, but stopped where it is, with a warning", async () => {
      const service = `faults ${services++}`;
      const database = server.database({ service, lease: 60_000 });
      const start = async (settings: object): Promise<Actor> =>
        Actor.start("on-several-hosts.js", { database, ...settings });
      const a = await start({ drainTimeout: 300_000, unitTimeout: 100_000 });
      await a.tell("start", "poison", 7);
      let dying = await start({ diesWith: "poison" });
      await untilKnown(a, dying);
      a.kill("SIGTERM");
      for (let n = 1; n <= 3; n++) {
        if (n > 1) dying = await start({ diesWith: "poison" });
        await dying.says("run", { id: "poison" });
        await dying.service.exited;
        const { seat } = (await server.seats(service)).find(({ pid }) => pid === dying.pid)!;
        await server.expire(seat);
      }
      const fourth = await start({});
      const { units } = await a.leaves("stopped");
      expect(units).toMatchObject({ room: { moved: 0, stopped: 0, failed: 1 } });
      expect(a.said("stop")).toMatchObject([{ id: "poison", visits: 7 }]);
      expect(a.service.noise).toContain("processes have died with it");
      expect(fourth.said("run")).toEqual([]);
    });

    test("a state that is larger than the database is told to take is stopped where it is, and the others move", async () => {
      const database = { ...server.database({ service: `faults ${services++}` }), maxBody: 10_000 };
      const a = await Actor.start("on-several-hosts.js", { database });
      await a.tell("startAll", ["large", "small"]);
      await a.tell("grow", "large", 10_000);
      const b = await Actor.start("on-several-hosts.js", { database });
      await untilKnown(a, b);
      a.kill("SIGTERM");
      const { units } = await a.leaves("stopped");
      expect(units).toMatchObject({ room: { moved: 1, stopped: 1, failures: { ERR_TOO_LARGE: 1 } } });
      expect(a.said("stop")).toMatchObject([{ id: "large" }]);
      expect(b.said("run")).toMatchObject([{ id: "small" }]);
    });

    test("a unit that a dead host has offered is not started anew: its state is taken", async () => {
      const service = `faults ${services++}`;
      const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
      const [owner, refusing, starting] = [join(), join(), join()];
      const waiting: string[] = [];
      const end = refusing.hosts.exchange.subscribe("unit", "room", async ({ id }) => {
        waiting.push(id);
        return new Promise(() => {});
      });
      await owner.hosts.directory.own("room", ["x"]);
      await untilPeers(owner, 1);
      owner.hosts.exchange.offer([parcel("x", { kind: "unit", label: "room" })]);
      await expect.poll(() => waiting).toEqual(["x"]);
      // It enters again, with another seat.
      const dead = owner.name();
      await server.expire(dead.seat!);
      expect(await starting.hosts.directory.own("room", ["x"])).toEqual([{ owner: dead }]);
      end();
      await refusing.hosts.leave();
      const running = takeRooms(starting);
      await expect.poll(() => [...running]).toEqual(["x"]);
      await expect.poll(async () => starting.hosts.directory.where("room", "x")).toEqual(starting.name());
    });

    test("two services of different programs with one name do not take each other's kinds", async () => {
      const service = `faults ${services++}`;
      const [a, b] = [joinHosts(server.exchange({ service })), joinHosts(server.exchange({ service }))];
      b.hosts.exchange.subscribe("unit", "game", () => "taken");
      await a.hosts.directory.own("room", ["x"]);
      await expect.poll(() => a.hosts.exchange.peers("unit", "game")).toHaveLength(1);
      expect(a.hosts.exchange.peers("unit", "room")).toEqual([]);
      const [offered] = a.hosts.exchange.offer([parcel("x", { kind: "unit", label: "room" })]);
      expect(await offered!.settled).toEqual({ how: "refused", code: "ERR_NO_TAKER" });
    });

    test("of two processes with one seat the one that held it first loses it", async () => {
      const service = `faults ${services++}`;
      const a = joinHosts(server.exchange({ service, lease: 6_000 }));
      await expect.poll(() => a.hosts.isHeld).toBe(true);
      await server.occupy(service, a.name().seat!);
      await expect.poll(() => a.failures).toMatchObject([{ code: "ERR_LEASE" }]);
    });
  });
});
