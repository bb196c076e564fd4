import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { readDatabase } from "../../dist/postgres/database.js";
import { PostgresEngine } from "../../dist/postgres/postgres-engine.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, type Host } from "../support/hosts.js";
import { Postgres } from "../support/postgres.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;
const nextService = (): string => `late ${services++}`;
const fence = expect.any(Number) as number;

/** Waits until a statement that begins so waits for a row that a transaction holds. */
async function waits(beginning: string): Promise<void> {
  const waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and query like $1";
  await expect.poll(async () => server.query(waiting, [`${beginning}%`])).toHaveLength(1);
}

const dies = async (host: Host): Promise<unknown> =>
  server.query("update handover.seat set seen = now() - lease * interval '1 ms' where seat = $1", [
    host.name().seat,
  ]);

/** Statements that begin so wait where they look at a seat, until the function that it returns is called. */
async function pauseAtSeats(beginning: string): Promise<() => Promise<void>> {
  await server.query(`create or replace function handover.pause() returns boolean language plpgsql cost 0.0001 as $$ begin
      if current_query() like '${beginning}%' then perform pg_advisory_xact_lock_shared(1); end if;
      return true;
    end $$`);
  const client = await server.transaction();
  await client.query("select pg_advisory_xact_lock(1)");
  await server.query("alter table handover.seat rename to seats");
  await server.query("create view handover.seat as select * from handover.seats where handover.pause()");
  return async () => {
    await client.end();
    await server.query("begin; drop view handover.seat; alter table handover.seats rename to seat; commit");
  };
}

/** A statement sees seats as they were when it began, and rows as they are when it comes to them. */
describe("a statement that is slow", () => {
  test("a unit stays with a host that has started, and has got the unit, after the statement of another one began", async () => {
    const service = nextService();
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [dead, slow] = [join(), join()];
    await dead.hosts.directory.own("room", ["a", "b"]);
    await expect.poll(() => slow.hosts.isHeld).toBe(true);
    await dies(dead);
    const release = await server.hold(
      "select from handover.unit where service = $1 and id = 'a' for update",
      [service],
    );
    const asked = slow.hosts.directory.own("room", ["a", "b"]);
    await waits("%insert into handover.unit");
    const quick = join();
    expect(await quick.hosts.directory.own("room", ["b"])).toEqual([{ fence }]);
    await release();
    expect(await asked).toEqual([{ fence }, { owner: quick.name() }]);
    expect(await slow.hosts.directory.where("room", "b")).toEqual(quick.name());
  });

  test("a unit that begins has a higher fence than another host has had since the statement began, ahead of the clock", async () => {
    const service = nextService();
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [slow, quick] = [join(), join()];
    await expect.poll(() => slow.hosts.isHeld && quick.hosts.isHeld).toBe(true);
    const ahead = (Date.now() + 3_600_000) * 1024;
    await server.query(
      "insert into handover.fence values ($1, $2) on conflict (service) do update set fence = $2",
      [service, ahead],
    );
    await quick.hosts.directory.own("room", ["a"]);
    const release = await server.hold(
      "select from handover.unit where service = $1 and id = 'a' for update",
      [service],
    );
    const asked = slow.hosts.directory.own("room", ["a", "b"]);
    await waits("%insert into handover.unit");
    const [owned] = await quick.hosts.directory.own("room", ["b"]);
    quick.hosts.directory.disown("room", [{ id: "b", fence: (owned as { fence: number }).fence }]);
    // It is done, or it waits for the statement that is slow.
    const waiting = `select from pg_stat_activity where wait_event_type = 'Lock' and query like '%delete from handover.unit%'
      union all select where not exists (select from handover.unit where service = $1 and id = 'b')`;
    await expect.poll(async () => server.query(waiting, [service])).not.toEqual([]);
    await release();
    const fences = (await asked).map((result) => ("fence" in result ? result.fence : Infinity));
    expect(fences[1]).toBeGreaterThan((owned as { fence: number }).fence);
    expect((owned as { fence: number }).fence).toBeGreaterThan(ahead);
  });

  test("an offer stays with a host that has started, and has claimed it, after its owner began to take it back", async () => {
    const service = nextService();
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [owner, other] = [join(), join()];
    other.hosts.exchange.subscribe("unit", "room", async ({ id }) =>
      id === "a" ? new Promise(() => {}) : { code: "ERR_MINE" },
    );
    await owner.hosts.directory.own("room", ["a", "b"]);
    await expect.poll(() => owner.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    owner.hosts.exchange.offer(
      ["a", "b"].map((id) => parcel(id, { kind: "unit", label: "room", ttl: 60_000 })),
    );
    const isDecided =
      "select seq from handover.offer where service = $1 and (claimant is not null or refusal is not null) order by seq";
    await expect.poll(async () => server.query(isDecided, [service])).toHaveLength(2);
    const numbers = (await server.query(isDecided, [service])).map(({ seq }) => Number(seq));
    const settings = { service, lease: 60_000, listen: false, maxBody: 1, migrate: undefined };
    const engine = new PostgresEngine({ ...settings, ...readDatabase({ url: server.url }) });
    await engine.open(
      () => "",
      () => {},
    );
    onTestFinished(async () => engine.close());
    const goOn = await pauseAtSeats("with back as");
    const back = engine.withdraw(owner.name().seat!, numbers);
    await waits("with back as");
    const quick = join();
    const running: string[] = [];
    quick.hosts.exchange.subscribe("unit", "room", async ({ id }) => {
      running.push(id);
      return new Promise(() => {});
    });
    await expect.poll(() => running).toEqual(["b"]);
    await goOn();
    expect(await back).toEqual([]);
  });

  test("a role stays with a host that has started, and has got it, after the statement of another one began", async () => {
    const service = nextService();
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [dead, slow] = [join(), join()];
    await expect.poll(async () => dead.hosts.roles.acquire("cron")).toEqual(fence);
    await expect.poll(() => slow.hosts.isHeld).toBe(true);
    await dies(dead);
    const client = await server.transaction();
    await client.query("select from handover.role where service = $1 for update", [service]);
    const asked = slow.hosts.roles.acquire("cron");
    await waits("insert into handover.role");
    const quick = join();
    await expect.poll(() => quick.hosts.isHeld).toBe(true);
    await client.query("update handover.role set seat = $2 where service = $1", [service, quick.name().seat]);
    await client.query("commit");
    await client.end();
    expect(await asked).toBeUndefined();
  });
});
