import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Actor } from "../support/actor.js";
import { ENGINES, startEngine, type EngineServer } from "../support/engines.js";
import { FakeClock, isUntested } from "../support/fake-clock.js";

const HOUR = 3_600_000;

let server!: EngineServer;

let services = 0;
const nextService = (): string => `clocks ${services++}`;
const database = (service: string): object => server.database({ service, lease: 4_500 });
const start = async (settings: object, clock?: FakeClock): Promise<Actor> =>
  Actor.start("on-several-hosts.js", settings, clock?.env);

/** Waits until the date of a process is this far from the machine's, and it has renewed its lease twice since. */
async function beatsOn(host: Actor, service: string, hours: number): Promise<void> {
  await expect
    .poll(async () => Math.round((Number(await host.tell("date")) - Date.now()) / HOUR))
    .toBe(hours);
  const last = async (): Promise<string | undefined> => {
    const own = (await server.seats(service)).find(({ pid }) => pid === host.pid);
    return own && server.lastBeat(service, own.seat);
  };
  for (let n = 0; n < 2; n++) {
    const before = await last();
    await expect.poll(last).not.toBe(before);
  }
}

describe.skipIf(isUntested).each(ENGINES)(
  `a process whose clock jumps, over %s${isUntested ? " (NOT TESTED: needs faketime)" : ""}`,
  (engine) => {
    beforeAll(async () => {
      server = await startEngine(engine);
    });
    afterAll(async () => server.remove());

    test("a process whose date jumps forward and back keeps its lease and its units, and fences grow between hosts with any date", async () => {
      const service = nextService();
      const settings = { database: database(service), recovers: true };
      const clock = new FakeClock(false);
      const a = await start(settings, clock);
      await a.says("acquired");
      await a.tell("start", "x");
      const b = await start(settings);
      for (const hours of [1, -1, 0]) {
        clock.set(hours);
        await beatsOn(a, service, hours);
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
      await beatsOn(c, service, -1);
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
      const service = nextService();
      const settings = { database: database(service), recovers: true };
      const clock = new FakeClock(true);
      const a = await start(settings, clock);
      await a.tell("start", "x");
      const b = await start(settings);
      clock.set(1);
      await beatsOn(a, service, 1);
      expect([a.said("failed"), a.said("abort"), b.said("run")]).toEqual([[], [], []]);
    });
  },
);
