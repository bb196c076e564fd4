import { describe, expect, onTestFinished, test } from "vitest";
import { migrate, postgres } from "../../dist/postgres/index.js";
import { Actor } from "../support/actor.js";
import { joinHosts } from "../support/hosts.js";
import { Postgres } from "../support/postgres.js";
import { handover, jsonLines } from "../support/program.js";
import { obstacle, SmallDisk } from "../support/small-disk.js";

const untested = obstacle === undefined ? "" : ` (NOT TESTED: ${obstacle})`;
const ids = (count: number): string[] => Array.from({ length: count }, (_, n) => `r${n}`);

const start = async (database: object, settings: object = {}): Promise<Actor> =>
  Actor.start("on-several-hosts.js", { database, ...settings });
/** The units that were stopped, each with its state. What is answered late may be stopped later. */
const stops = (actor: Actor): string[] =>
  actor
    .said("stop")
    .map(({ id, visits }) => `${id as string} ${visits as number}`)
    .toSorted();
const unvisited = ids(20)
  .map((id) => `${id} 0`)
  .toSorted();

/** A host starts the units that were stopped elsewhere, and hands them on. */
async function goOn(host: Actor, database: object): Promise<void> {
  await expect.poll(async () => host.tell("startAll", ids(20))).toEqual(ids(20).map(() => "here"));
  const next = await start(database);
  await expect
    .poll(async () => jsonLines(await handover("status", host.pid, "--json"))[0]!["hosts"])
    .toMatchObject({
      peers: expect.arrayContaining([expect.objectContaining({ pid: next.pid }) as unknown]) as unknown,
    });
  host.kill("SIGTERM");
  expect((await host.leaves("stopped"))["units"]).toMatchObject({ room: { moved: 20, stopped: 0 } });
  expect(await next.tell("size")).toBe(20);
  expect(host.said("failed")).toEqual([]);
}

describe.skipIf(obstacle !== undefined)(`a database whose disk is full${untested}`, () => {
  test("a database that cannot extend its tables says so, units are stopped with their states, and it goes on when there is room", async () => {
    const disk = new SmallDisk(1_024);
    const server = await Postgres.start();
    onTestFinished(async () => server.remove());
    await server.query(`create tablespace small location '${disk.directory}'`);
    await server.query("alter database postgres set default_tablespace = small");
    await migrate({ url: server.url });
    const database = { service: "full", url: server.url, lease: 30_000 };
    const [a, b] = await Promise.all([start(database, { unitTimeout: 3_000 }), start(database)]);
    await a.tell("startAll", ids(20));
    const watcher = joinHosts(postgres(database));
    await expect.poll(() => watcher.hosts.status().peers).toHaveLength(2);
    disk.fill();
    await expect(
      watcher.hosts.directory.own(
        "room",
        ids(5_000).map((id) => `${id} more`),
      ),
    ).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: expect.stringMatching(/^PostgreSQL cannot be asked: .*No space left on device/) as string,
    });
    a.kill("SIGTERM");
    const { units } = await a.leaves("stopped");
    expect(units).toMatchObject({ room: { moved: 0, stopped: 20, failed: 0 } });
    expect(stops(a)).toEqual(unvisited);
    expect(b.said("run")).toEqual([]);
    expect([...b.said("failed"), ...watcher.failures]).toEqual([]);

    disk.empty();
    await goOn(b, database);
  });

  test("a database that ends as it cannot write its log leaves units to stop(), with their states, and goes on when there is room", async () => {
    const disk = new SmallDisk(8 * 1_024);
    const server = await Postgres.start(["fsync = off"], ["-X", `${disk.directory}/wal`, "--wal-segsize=1"]);
    onTestFinished(async () => server.remove());
    await migrate({ url: server.url });
    const database = { service: "full", url: server.url, lease: 60_000 };
    const [a, b] = await Promise.all([start(database, { unitTimeout: 3_000 }), start(database)]);
    await a.tell("startAll", ids(20));
    disk.fill();
    await expect(server.query("create table junk as select generate_series(1, 1000000)")).rejects.toThrow(
      "No space left on device",
    );
    await server.ended();
    await expect(b.tell("start", "r0")).rejects.toMatchObject({ code: "ERR_EXCHANGE" });
    a.kill("SIGTERM");
    const { units } = await a.leaves("stopped");
    expect(units).toMatchObject({ room: { moved: 0, stopped: 20, failed: 0 } });
    expect(stops(a)).toEqual(unvisited);
    expect(b.said("run")).toEqual([]);
    // It does not stay until the lease has ended, for the sake of its role.
    expect(a.said("failed")).toEqual([]);

    disk.empty();
    await server.run();
    // What it could not give up is free when its lease has ended.
    const ends = "update handover.seat set seen = now() - lease * interval '1 ms' where about ->> 'pid' = $1";
    await server.query(ends, [String(a.pid)]);
    await goOn(b, database);
  });
});
