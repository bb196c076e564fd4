import { setImmediate as turn } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Settlement } from "../../dist/exchange/parcel.js";
import type { HostExchange } from "../../dist/exchange/hosts.js";
import { etcd } from "../../dist/etcd/index.js";
import { postgres } from "../../dist/postgres/index.js";
import { Actor } from "../support/actor.js";
import { Etcd } from "../support/etcd.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, type Host } from "../support/hosts.js";
import { Postgres } from "../support/postgres.js";
import { StallingProxy } from "../support/stalling-proxy.js";

let server!: Postgres;
beforeAll(async () => {
  // With fsync: it is killed.
  server = await Postgres.start(["max_connections = 200"]);
});
afterAll(async () => server.remove());

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

/** Takes units, and keeps those that it runs. */
function runs(host: Host): Set<string> {
  const running = new Set<string>();
  host.hosts.exchange.subscribe("unit", "room", ({ id }, { signal }) => {
    running.add(id);
    signal.addEventListener("abort", () => running.delete(id));
    return "taken";
  });
  return running;
}

async function peers(host: Host, count: number): Promise<void> {
  await expect.poll(() => host.hosts.exchange.peers("unit", "room")).toHaveLength(count);
}

interface Database {
  readonly port: number;
  kill(): Promise<void>;
  run(): Promise<void>;
  remove(): Promise<void>;
}

/** How each engine is started, reached at a port, and asked for what is on offer. */
const ENGINES: Record<
  string,
  () => Promise<{
    readonly database: Database;
    readonly at: (port: number, service: string) => HostExchange;
    readonly offers: (service: string) => Promise<readonly unknown[]>;
  }>
> = {
  PostgreSQL: async () => ({
    database: server,
    at: (port, service) =>
      postgres({
        service,
        lease: 60_000,
        migrate: true,
        url: `postgres://postgres@127.0.0.1:${port}/postgres`,
      }),
    offers: async (service) => server.query("select from handover.offer where service = $1", [service]),
  }),
  etcd: async () => {
    const database = await Etcd.start();
    onTestFinished(async () => database.remove());
    return {
      database,
      at: (port, service) => etcd({ service, lease: 60_000, endpoints: [`http://127.0.0.1:${port}`] }),
      offers: async (service) => database.entries(service, "offer/"),
    };
  },
};

describe("a database that fails while units move", () => {
  test.each(
    Object.keys(ENGINES).flatMap((engine) => [
      [engine, "killed and started again"],
      [engine, "cut off again and again"],
    ]),
  )("%s that is %s loses no unit, and no unit runs twice", async (engine, how) => {
    const { database, at, offers } = await ENGINES[engine]!();
    const proxy = await StallingProxy.start(database.port);
    onTestFinished(() => proxy.close());
    const service = `faults ${services++}`;
    const join = (): Host => joinHosts(at(proxy.port, service));
    const owner = join();
    const takers = [join(), join()];
    const running = takers.map((taker) => runs(taker));
    await peers(owner, 2);
    const all = ids(900);
    await owner.hosts.directory.own("room", all);
    const draining = drain(owner, all);
    for (let n = 1; n <= 3; n++) {
      await expect.poll(() => running[0]!.size + running[1]!.size).toBeGreaterThan(n * 150);
      if (how.startsWith("killed")) {
        await database.kill();
        await database.run();
      } else proxy.cut();
    }
    const taken = await draining;
    await expect.poll(async () => offers(service)).toHaveLength(0);
    expect([...taken.values()]).toEqual(all.map(() => 1));
    expect([...running[0]!, ...running[1]!].toSorted()).toEqual(all.toSorted());
  });
});

describe("a process that does not run for longer than its lease", () => {
  test("no write of a process that was stopped gets through with its old fence", async () => {
    const database = { service: `faults ${services++}`, url: server.url, lease: 2_000, migrate: true };
    const a = await Actor.start("on-several-hosts.js", { database });
    await a.tell("start", "x");
    const b = await Actor.start("on-several-hosts.js", { database, recovers: true });
    a.kill("SIGSTOP");
    const { fence } = await b.says("run", { id: "x" });
    await server.query("create table if not exists written (id text primary key, by int, fence bigint)");
    const write = async (pid: number, held: unknown): Promise<unknown[]> =>
      server.query(
        "insert into written values ('x', $1, $2) on conflict (id) do update set by = $1, fence = $2 where written.fence <= $2 returning by",
        [pid, held],
      );
    expect(await write(b.pid, fence)).toHaveLength(1);
    expect(await write(a.pid, a.said("run")[0]!["fence"])).toEqual([]);
    a.kill("SIGCONT");
    await a.says("abort", { id: "x" });
    expect(await a.tell("get", "x")).toBe("nothing");
  });
});

describe("what else may go wrong", () => {
  test("a fence that is ahead of the clock is not given again when its unit has ended", async () => {
    const service = `faults ${services++}`;
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [dead, heir] = [join(), join()];
    await dead.hosts.directory.own("room", ["x"]);
    await expect.poll(() => heir.hosts.isHeld).toBe(true);
    const dies =
      "update handover.seat set seen = now() - lease * interval '1 ms', fence = fence + (1::bigint << 40) where seat = $1";
    await server.query(dies, [dead.name().seat]);
    const [inherited] = await heir.hosts.directory.own("room", ["x"]);
    const { fence } = inherited as { fence: number };
    heir.hosts.directory.disown("room", [{ id: "x", fence }]);
    const [again] = await join().hosts.directory.own("room", ["x"]);
    expect((again as { fence: number }).fence).toBeGreaterThan(fence);
  });

  test("the fence of a host that died as it took a unit is not given again", async () => {
    const service = `faults ${services++}`;
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [owner, dying, other] = [join(), join(), join()];
    const seen: number[] = [];
    dying.hosts.exchange.subscribe("unit", "room", async (_, delivery) => {
      seen.push(delivery.fence);
      return new Promise(() => {});
    });
    await owner.hosts.directory.own("room", ["x"]);
    const ahead =
      "update handover.unit set fence = fence + (1::bigint << 40) where service = $1 returning fence";
    const [unit] = await server.query(ahead, [service]);
    await peers(owner, 1);
    const [offered] = owner.hosts.exchange.offer([parcel("x", { kind: "unit", label: "room" })]);
    await expect.poll(() => seen).toHaveLength(1);
    const dies = "update handover.seat set seen = now() - lease * interval '1 ms' where seat = $1";
    await server.query(dies, [dying.name().seat]);
    offered!.withdraw();
    expect(await offered!.settled).toMatchObject({ how: "withdrawn" });
    owner.hosts.directory.disown("room", [{ id: "x", fence: Number(unit!["fence"]) }]);
    await owner.hosts.directory.where("room", "x");
    const [again] = await other.hosts.directory.own("room", ["x"]);
    expect((again as { fence: number }).fence).toBeGreaterThan(seen[0]!);
  });

  test("a unit that a dead host has offered is not started anew: its state is taken", async () => {
    const service = `faults ${services++}`;
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [owner, refusing, starting] = [join(), join(), join()];
    const end = refusing.hosts.exchange.subscribe("unit", "room", async () => new Promise(() => {}));
    await owner.hosts.directory.own("room", ["x"]);
    await peers(owner, 1);
    owner.hosts.exchange.offer([parcel("x", { kind: "unit", label: "room" })]);
    await expect
      .poll(async () =>
        server.query("select from handover.offer where claimant is not null and service = $1", [service]),
      )
      .toHaveLength(1);
    const dies = "update handover.seat set seen = now() - lease * interval '1 ms' where seat = $1";
    await server.query(dies, [owner.name().seat]);
    expect(await starting.hosts.directory.own("room", ["x"])).toEqual([{ owner: owner.name() }]);
    end();
    await refusing.hosts.leave();
    const running = runs(starting);
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
    const a = joinHosts(server.exchange({ service, lease: 3_000 }));
    await expect.poll(() => a.hosts.isHeld).toBe(true);
    await server.query("update handover.seat set holder = 'another' where service = $1", [service]);
    await expect.poll(() => a.failures).toMatchObject([{ code: "ERR_LEASE" }]);
  });

  test("a transaction of somebody else that holds a unit's row delays that unit, and no lease", async () => {
    const service = `faults ${services++}`;
    const a = joinHosts(server.exchange({ service, lease: 3_000 }));
    await a.hosts.directory.own("room", ["x", "y"]);
    const release = await server.hold(
      "select from handover.unit where service = $1 and id = 'x' for update",
      [service],
    );
    const asked = a.hosts.directory.own("room", ["x"]);
    await expect(asked).rejects.toMatchObject({ code: "ERR_EXCHANGE" });
    expect(await a.hosts.directory.own("room", ["y"])).toMatchObject([
      { fence: expect.any(Number) as number },
    ]);
    expect(a.failures).toEqual([]);
    await release();
    expect(await a.hosts.directory.own("room", ["x"])).toMatchObject([
      { fence: expect.any(Number) as number },
    ]);
  });

  test("a unit is not a process's whose lease ended while the database gave it the unit, also if it has a new lease", async () => {
    const service = `faults ${services++}`;
    const a = joinHosts(server.exchange({ service }));
    await a.hosts.directory.own("room", ["x"]);
    const { seat } = a.name();
    const release = await server.hold(
      "select from handover.unit where service = $1 and id = 'x' for update",
      [service],
    );
    const asked = a.hosts.directory.own("room", ["x"]);
    const waiting =
      "select from pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into handover.unit%'";
    await expect.poll(() => server.query(waiting)).toHaveLength(1);
    await server.query("update handover.seat set seen = now() - interval '1 day' where seat = $1", [seat]);
    // What it takes is told with a beat.
    a.hosts.exchange.subscribe("unit", "room", () => "taken");
    await expect.poll(() => a.hosts.isHeld && a.name().seat !== seat).toBe(true);
    const [outcome] = await Promise.all([Promise.allSettled([asked]), release()]);
    expect(outcome).toMatchObject([{ status: "rejected", reason: { code: "ERR_LEASE" } }]);
  });

  test("a unit cannot be started while the database is away, and can when it is back", async () => {
    const other = await Postgres.start();
    onTestFinished(() => other.remove());
    const a = joinHosts(other.exchange({ lease: 1_000 }));
    await a.hosts.directory.own("room", ["x"]);
    await other.kill();
    await expect.poll(() => a.failures).toMatchObject([{ code: "ERR_LEASE" }]);
    await expect(a.hosts.directory.own("room", ["y"])).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: expect.stringContaining("postgres does not answer") as string,
    });
    await other.run();
    await expect.poll(() => a.hosts.isHeld).toBe(true);
    expect(await a.hosts.directory.own("room", ["y"])).toMatchObject([
      { fence: expect.any(Number) as number },
    ]);
  });
});
