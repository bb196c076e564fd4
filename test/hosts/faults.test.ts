import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Actor } from "../support/actor.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, untilPeers, type Host } from "../support/hosts.js";
import { Postgres } from "../support/postgres.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start(["max_connections = 200"]);
});
afterAll(async () => server.remove());

let services = 0;

describe("what may go wrong with PostgreSQL", () => {
  test("a transaction of somebody else that holds a seat's row ends its lease, and its units end before others have them", async () => {
    const database = { service: `faults ${services++}`, url: server.url, lease: 6_000, migrate: true };
    const a = await Actor.start("on-several-hosts.js", { database });
    await a.tell("start", "x");
    const release = await server.hold("select from handover.seat where about ->> 'pid' = $1 for update", [
      String(a.pid),
    ]);
    const b = await Actor.start("on-several-hosts.js", { database, recovers: true });
    const run = await b.says("run", { id: "x" });
    const ended = await a.says("abort", { id: "x" });
    expect(run["at"]).toBeGreaterThan(ended["at"] as number);
    expect(run["fence"]).toBeGreaterThan(ended["fence"] as number);
    await a.says("failed", { code: "ERR_LEASE" });
    await release();
    // It takes part again, as another one.
    await expect(a.tell("start", "x")).rejects.toMatchObject({
      code: "ERR_ELSEWHERE",
      owner: { pid: b.pid },
    });
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
    const ahead = "update handover.unit set fence = fence + (1::bigint << 40) where service = $1";
    await server.query(ahead, [service]);
    await untilPeers(owner, 1);
    const [offered] = owner.hosts.exchange.offer([parcel("x", { kind: "unit", label: "room" })]);
    await expect.poll(() => seen).toHaveLength(1);
    const dies = "update handover.seat set seen = now() - lease * interval '1 ms' where seat = $1";
    await server.query(dies, [dying.name().seat]);
    offered!.withdraw();
    const settlement = (await offered!.settled) as { how: string; fence: number };
    expect(settlement).toMatchObject({ how: "withdrawn" });
    owner.hosts.directory.disown("room", [{ id: "x", fence: settlement.fence }]);
    await owner.hosts.directory.where("room", "x");
    const [again] = await other.hosts.directory.own("room", ["x"]);
    expect((again as { fence: number }).fence).toBeGreaterThan(seen[0]!);
  });

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

  test("a transaction of somebody else that holds a unit's row delays that unit, and no lease", async () => {
    const service = `faults ${services++}`;
    const a = joinHosts(server.exchange({ service, lease: 6_000 }));
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
      "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into handover.unit%'";
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
    const a = joinHosts(other.exchange({ lease: 6_000 }));
    await a.hosts.directory.own("room", ["x"]);
    await other.kill();
    await expect.poll(() => a.hosts.isHeld).toBe(false);
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
