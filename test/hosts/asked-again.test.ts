import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { DrainReport } from "../../dist/events.js";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import type { UnitDefinition } from "../../dist/state/units/unit-definition.js";
import { ENGINES, startEngine, type EngineServer } from "../support/engines.js";
import { joinHosts, stateOf, untilPeers, type Host } from "../support/hosts.js";

let server!: EngineServer;

let services = 0;
const ids = Array.from({ length: 20 }, (_, n) => `r${n}`);

/** A service: a host with rooms, which it hands on when so many others take them, and a way to join it. */
function service(): {
  takes: (accept: UnitDefinition<string, string>["accept"]) => Taker;
  drain: (peers: number, unitTimeout: number) => Promise<DrainReport>;
} {
  const name = `asked again ${services++}`;
  const join = (): Host => joinHosts(server.exchange({ service: name, lease: 60_000 }));
  const owner = join();
  const state = stateOf(owner);
  const definition = {
    scope: "global",
    version: 1,
    run: (_: string, room: string) => room,
    freeze: (_: string, room: string) => room,
  } as const;
  const rooms = state.units<string, string>("room", { ...definition });
  return {
    takes(accept) {
      const taker: Taker = { asked: [], ran: [] };
      stateOf(join()).units<string, string>("room", {
        ...definition,
        run: (id, room) => (taker.ran.push(id), room),
        accept(id, about) {
          taker.asked.push({ id, at: performance.now() });
          return accept!(id, about);
        },
      });
      return taker;
    },
    async drain(peers, unitTimeout) {
      await Promise.all(ids.map(async (id) => rooms.start(id, `state of ${id}`)));
      await untilPeers(owner, peers);
      const hosts = { exchange: owner.hosts.exchange, isSeatShared: Promise.resolve(false) };
      const context = new DrainContext(undefined, Promise.resolve(true), 600_000, hosts);
      onTestFinished(() => context.end());
      state.beginDrain(context);
      return rooms.drain({ unitTimeout, giveUpAfter: 5 });
    },
  };
}

interface Taker {
  /** When it was asked, on the clock of `performance.now()`. */
  readonly asked: { id: string; at: number }[];
  readonly ran: string[];
}

/** The shortest pause, in ms, between two questions for one unit. */
function shortestPause({ asked }: Taker): number {
  const pauses = ids.flatMap((id) => {
    const times = asked.filter((one) => one.id === id).map(({ at }) => at);
    return times.slice(1).map((at, n) => at - times[n]!);
  });
  return Math.min(...pauses);
}

describe.each(ENGINES)("over %s", (engine) => {
  beforeAll(async () => {
    server = await startEngine(engine);
  });
  afterAll(async () => server.remove());

  test("a host whose accept() says no by the age is asked again, and takes units that have waited long enough", async () => {
    const { takes, drain } = service();
    const first = new Map<string, number>();
    const taker = takes((id, { age }) => {
      if (!first.has(id)) first.set(id, age);
      return age >= first.get(id)! + 400;
    });
    expect(await drain(1, 60_000)).toMatchObject({ moved: 20, stopped: 0, failures: {} });
    expect(taker.ran.toSorted()).toEqual(ids.toSorted());
    expect(taker.asked.length).toBeGreaterThanOrEqual(40);
    expect(shortestPause(taker)).toBeGreaterThan(200);
  });

  test("what one host never takes goes to one that takes it later, and each is asked a few times only", async () => {
    const { takes, drain } = service();
    const never = takes((_, { age }) => age < 0);
    const later = takes((_, { age }) => age >= 600);
    const begun = performance.now();
    expect(await drain(2, 60_000)).toMatchObject({ moved: 20, stopped: 0, failures: {} });
    expect([never.ran, later.ran.toSorted()]).toEqual([[], ids.toSorted()]);
    const most = 1 + (performance.now() - begun) / 200;
    for (const { asked } of [never, later])
      expect(Math.max(...ids.map((id) => asked.filter((one) => one.id === id).length))).toBeLessThan(most);
  });

  test("units that no host takes yet are stopped when unitTimeout is over, and those that all refuse at once", async () => {
    const { takes, drain } = service();
    const taker = takes((id, about) => id !== "r0" && id !== "r1" && about.age < 0);
    // Longer than two questions take, of which each is several writes to the disk.
    expect(await drain(1, 6_000)).toMatchObject({ moved: 0, stopped: 20, failures: { ERR_REFUSED: 20 } });
    expect(taker.ran).toEqual([]);
    expect(taker.asked.filter((one) => one.id === "r2").length).toBeGreaterThan(1);
    // A question that does not depend on the age has one answer.
    for (const id of ["r0", "r1"]) expect(taker.asked.filter((one) => one.id === id)).toHaveLength(1);
  });
});
