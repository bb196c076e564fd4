import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { postgres } from "../../dist/postgres/index.js";
import { channelOf } from "../../dist/postgres/names.js";
import { deferred } from "../../dist/util/deferred.js";
import { Actor } from "../support/actor.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, type Host } from "../support/hosts.js";
import { KillingProxy, READY } from "../support/killing-proxy.js";
import { openPair, type Packet } from "../support/local-pair.js";
import { Postgres } from "../support/postgres.js";
import { StallingProxy } from "../support/stalling-proxy.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;
const nextService = (): string => `seats ${services++}`;
const fence = expect.any(Number) as number;

/** Reaches the database by a proxy of its own. */
async function joinByProxy(service: string, lease: number, predecessors?: Promise<unknown>) {
  const proxy = await StallingProxy.start(server.port);
  onTestFinished(() => proxy.close());
  const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
  const exchange = postgres({ service, url, lease, migrate: true });
  return { proxy, host: joinHosts(exchange, undefined, predecessors) };
}

const pending = new Promise<never>(() => {});
const isHeld = async (host: Host): Promise<void> => {
  await expect.poll(() => host.hosts.isHeld).toBe(true);
};
const expire = async (host: Host): Promise<unknown> =>
  server.query("update handover.seat set seen = now() - lease * interval '2 ms' where seat = $1", [
    host.name().seat,
  ]);
const holders = async (service: string): Promise<unknown[]> =>
  server.query("select (about ->> 'pid')::int as pid from handover.seat where service = $1", [service]);

describe("a seat that is given to a successor", () => {
  test("a successor whose first beat fails keeps the seat, also if it has to beat out of turn", async () => {
    const service = nextService();
    const a = joinHosts(server.exchange({ service, lease: 12_000 }));
    const { proxy, host: b } = await joinByProxy(service, 12_000, pending);
    await Promise.all([isHeld(a), b.hosts.check()]);
    const { owner, taker } = openPair();
    b.hosts.subscribeTo(taker);
    await expect.poll(() => owner.peers("seat")).toHaveLength(1);
    proxy.stall();
    expect(await a.hosts.giveTo(owner)).toBe(true);
    // What it takes is told at once.
    b.hosts.exchange.subscribe("unit", "room", () => "taken");
    proxy.cut();
    proxy.goOn();
    await expect.poll(async () => holders(service)).toEqual([{ pid: b.name().pid }]);
    expect(b.failures).toEqual([]);
    expect(b.name().seat).toBe(a.name().seat);
  });

  test("a seat whose lease has ended on its way is not taken, nor are its roles", async () => {
    const service = nextService();
    const { proxy, host: a } = await joinByProxy(service, 6_000);
    const other = joinHosts(server.exchange({ service, lease: 6_000 }));
    const gone = deferred<void>();
    const b = joinHosts(server.exchange({ service, lease: 6_000 }), undefined, gone.promise);
    await Promise.all([isHeld(a), isHeld(other), b.hosts.check()]);
    await expect.poll(async () => a.hosts.roles.acquire("cron")).toEqual(fence);
    const held: Packet[] = [];
    const { owner, taker } = openPair((packet) => void held.push(packet));
    b.hosts.subscribeTo(taker);
    await expect.poll(() => owner.peers("seat")).toHaveLength(1);
    proxy.stall();
    const given = a.hosts.giveTo(owner);
    await expect.poll(() => held).toHaveLength(1);
    await expect.poll(() => a.failures).toMatchObject([{ code: "ERR_LEASE" }]);
    await expect.poll(async () => other.hosts.roles.acquire("cron")).toEqual(fence);
    taker.receive(...held[0]!);
    expect(await given).toBe(false);
    gone.resolve();
    await isHeld(b);
    expect(await b.hosts.roles.acquire("cron")).toBeUndefined();
  });

  test("a successor that is busy when it is given the seat gets it, with its units and roles, when it is idle", async () => {
    const service = nextService();
    const database = { service, url: server.url, lease: 12_000, migrate: true };
    const a = await Actor.start("on-several-hosts.js", { database, blocks: 2_500, probation: 8_000 });
    await a.says("acquired");
    await a.tell("start", "x");
    const other = await Actor.start("on-several-hosts.js", { database });
    const b = await a.upgrade();
    expect((await a.leaves())["units"]).toMatchObject({ room: { moved: 1, failures: {} } });
    await b.says("acquired");
    expect(await b.tell("get", "x")).toEqual({ visits: 0 });
    expect(other.said("acquired")).toEqual([]);
    expect([...a.said("failed"), ...b.said("failed")]).toEqual([]);
    expect(await holders(service)).toEqual(expect.arrayContaining([{ pid: b.pid }, { pid: other.pid }]));
  });

  test("what a process is taking from another host is given up before its successor has the seat", async () => {
    const service = nextService();
    const owner = joinHosts(server.exchange({ service, lease: 60_000 }));
    const { proxy, host: a } = await joinByProxy(service, 60_000);
    const b = joinHosts(server.exchange({ service, lease: 60_000 }), undefined, pending);
    let signal: AbortSignal | undefined;
    a.hosts.exchange.subscribe("unit", "room", async (_, delivery) => {
      signal = delivery.signal;
      return pending;
    });
    b.hosts.exchange.subscribe("unit", "other", () => "taken");
    await owner.hosts.directory.own("room", ["x"]);
    await Promise.all([isHeld(a), b.hosts.check()]);
    await expect.poll(() => owner.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    const [offered] = owner.hosts.exchange.offer([parcel("x", { kind: "unit", label: "room" })]);
    await expect.poll(() => signal?.aborted).toBe(false);
    const pair = openPair();
    b.hosts.subscribeTo(pair.taker);
    await expect.poll(() => pair.owner.peers("seat")).toHaveLength(1);
    expect(await a.hosts.giveTo(pair.owner)).toBe(true);
    proxy.stall();
    offered!.withdraw();
    expect(await offered!.settled).toMatchObject({ how: "withdrawn" });
    expect(signal!.aborted).toBe(true);
  });

  test("a process that has given its seat, and loses its lease, takes no other seat until it serves again", async () => {
    const service = nextService();
    const a = joinHosts(server.exchange({ service, lease: 6_000 }));
    const b = joinHosts(server.exchange({ service, lease: 6_000 }), undefined, pending);
    await Promise.all([isHeld(a), b.hosts.check()]);
    const { owner, taker } = openPair();
    b.hosts.subscribeTo(taker);
    await expect.poll(() => owner.peers("seat")).toHaveLength(1);
    await a.hosts.giveTo(owner);
    await expect.poll(async () => holders(service)).toEqual([{ pid: b.name().pid }]);
    await expire(a);
    await expect.poll(() => [a.failures, b.failures]).toMatchObject([[{}], [{}]]);
    await isHeld(b);
    expect(await holders(service)).not.toContainEqual({ pid: a.name().pid });
    a.hosts.rollBack();
    await isHeld(a);
  });
});

test("a renewal whose answer is missing is asked again on another connection, and the lease holds", async () => {
  const service = nextService();
  const beat = { asked: "update handover.seat s set seen", answered: READY };
  const proxy = await KillingProxy.start(server.port, beat, "after", async () => {});
  onTestFinished(() => proxy.close());
  const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
  const a = joinHosts(postgres({ service, url, lease: 12_000, migrate: true }));
  const b = joinHosts(server.exchange({ service, lease: 12_000 }));
  await Promise.all([isHeld(a), isHeld(b)]);
  // What it takes is told at once.
  a.hosts.exchange.subscribe("unit", "room", () => "taken");
  await proxy.met;
  a.hosts.exchange.subscribe("unit", "hall", () => "taken");
  await expect.poll(() => b.hosts.exchange.peers("unit", "hall")).toHaveLength(1);
  expect(a.failures).toEqual([]);
});

describe("a rollback", () => {
  test("a process that had lost its lease while it was leaving takes part again", async () => {
    const service = nextService();
    const a = joinHosts(server.exchange({ service, lease: 6_000 }));
    await isHeld(a);
    await a.hosts.announceDrain();
    await expire(a);
    await expect.poll(() => a.failures).toMatchObject([{ code: "ERR_LEASE" }]);
    a.hosts.rollBack();
    await isHeld(a);
    expect(await a.hosts.directory.own("room", ["x"])).toEqual([{ fence }]);
  });

  test("a process that could not say that it was leaving offers again", async () => {
    const service = nextService();
    const { proxy, host: a } = await joinByProxy(service, 3_000);
    const b = joinHosts(server.exchange({ service, lease: 3_000 }));
    b.hosts.exchange.subscribe("unit", "room", () => "taken");
    await expect.poll(() => a.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    proxy.stall();
    await a.hosts.announceDrain();
    proxy.goOn();
    a.hosts.rollBack();
    await expect.poll(() => a.hosts.exchange.peers("unit", "room")).toHaveLength(1);
  });

  test("a role that was acquired after a rollback has a higher fence elsewhere, if its host dies right after it", async () => {
    const service = nextService();
    const database = { service, url: server.url, lease: 600_000, migrate: true };
    const a = await Actor.start("on-several-hosts.js", { database, probation: 3_000, dies: true });
    await a.says("acquired");
    const b = await Actor.start("on-several-hosts.js", { database });
    await a.service.upgrade("rollback");
    await expect.poll(() => a.said("acquired")).toHaveLength(2);
    const [first, second] = a.said("acquired").map((line) => line["fence"] as number);
    const seat = "select fence::float8 from handover.seat where about ->> 'pid' = $1";
    // The next beat would be minutes away.
    await expect
      .poll(async () => (await server.query(seat, [String(a.pid)]))[0]!["fence"])
      .toBeGreaterThan(first!);
    a.kill();
    const endSeat =
      "update handover.seat set seen = now() - lease * interval '1 ms' where about ->> 'pid' = $1";
    const acquired = async (): Promise<number> => {
      // Again and again: the database may still answer a question that the killed process has asked.
      await server.query(endSeat, [String(a.pid)]);
      await server.query("select pg_notify($1, 'role')", [channelOf(service)]);
      return b.said("acquired").length;
    };
    await expect.poll(acquired).toBe(1);
    const { fence: next } = await b.says("acquired");
    expect(next).toBeGreaterThan(second!);
  });
});
