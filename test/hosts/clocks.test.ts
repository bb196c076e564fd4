import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Actor } from "../support/actor.js";
import { FakeClock, isUntested } from "../support/fake-clock.js";
import { Postgres } from "../support/postgres.js";

const HOUR = 3_600_000;

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;
const database = (): object => ({
  service: `clocks ${services++}`,
  url: server.url,
  lease: 4_500,
  migrate: true,
});
const start = async (settings: object, clock?: FakeClock): Promise<Actor> =>
  Actor.start("on-several-hosts.js", settings, clock?.env);

/** Waits until the date of a process is this far from the machine's, and it has renewed its lease twice since. */
async function beatsOn(host: Actor, hours: number): Promise<void> {
  await expect
    .poll(async () => Math.round((Number(await host.tell("date")) - Date.now()) / HOUR))
    .toBe(hours);
  const seen = async (): Promise<unknown> =>
    (
      await server.query("select seen::text from handover.seat where about ->> 'pid' = $1", [`${host.pid}`])
    )[0]?.["seen"];
  for (let n = 0; n < 2; n++) {
    const before = await seen();
    await expect.poll(seen).not.toBe(before);
  }
}

describe.skipIf(isUntested)(
  `a process whose clock jumps${isUntested ? " (NOT TESTED: needs faketime)" : ""}`,
  () => {
    test("a process whose date jumps forward and back keeps its lease and its units, and fences grow between hosts with any date", async () => {
      const settings = { database: database(), recovers: true };
      const clock = new FakeClock(false);
      const a = await start(settings, clock);
      await a.says("acquired");
      await a.tell("start", "x");
      const b = await start(settings);
      for (const hours of [1, -1, 0]) {
        clock.set(hours);
        await beatsOn(a, hours);
      }
      expect([a.said("failed"), a.said("abort"), a.said("released"), b.said("run")]).toEqual([
        [],
        [],
        [],
        [],
      ]);
      clock.set(1);
      await a.tell("start", "ahead");
      a.kill("SIGTERM");
      expect((await a.leaves("stopped"))["units"]).toMatchObject({ room: { moved: 2 } });
      const behind = new FakeClock(false);
      behind.set(-1);
      const c = await start(settings, behind);
      await beatsOn(c, -1);
      b.kill("SIGTERM");
      expect((await b.leaves("stopped"))["units"]).toMatchObject({ room: { moved: 2 } });
      for (const id of ["x", "ahead"]) {
        const fences = [a, b, c].map((host) => host.said("run").find((run) => run["id"] === id)!["fence"]);
        expect(fences).toEqual([...new Set(fences)].toSorted((one, other) => Number(one) - Number(other)));
      }
      const holders = [a, b, c].map((host) => host.said("acquired")[0]!["fence"]);
      expect(holders).toEqual([...new Set(holders)].toSorted((one, other) => Number(one) - Number(other)));
    });

    // Back it cannot jump: Node itself ends then.
    test("a process whose timers are all over at once keeps its lease and its units", async () => {
      const settings = { database: database(), recovers: true };
      const clock = new FakeClock(true);
      const a = await start(settings, clock);
      await a.tell("start", "x");
      const b = await start(settings);
      clock.set(1);
      await beatsOn(a, 1);
      expect([a.said("failed"), a.said("abort"), b.said("run")]).toEqual([[], [], []]);
    });
  },
);
