import { expect, onTestFinished, test } from "vitest";
import { Actor } from "../support/actor.js";
import { ENGINES, startEngine } from "../support/engines.js";
import { StallingProxy } from "../support/stalling-proxy.js";

const UNITS = Array.from({ length: 500 }, (_, n) => `r${n}`);

const CASES = ENGINES.flatMap((engine) => ["is killed", "stalls"].map((how) => [engine, how] as const));

// Of a room `unitTimeout` is 500 ms, of a hall 4,000. Five rooms move at a time.
test.each(CASES)(
  "over %s a database that %s before a stop is waited for once, and all units are stopped with their states",
  async (engine, how) => {
    const server = await startEngine(engine);
    onTestFinished(async () => server.remove());
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const settings = {
      database: server.database({ service: "away", at: proxy.port, lease: 60_000 }),
      patient: {},
    };
    const a = await Actor.start("on-several-hosts.js", settings);
    // An answer may take longer than 500 ms.
    await expect.poll(async () => a.tell("startAll", UNITS)).toEqual(UNITS.map(() => "here"));
    const b = await Actor.start("on-several-hosts.js", { ...settings, patient: undefined });
    await expect.poll(async () => server.seats("away")).toHaveLength(2);
    if (how === "stalls") proxy.stall();
    else await server.kill();
    a.kill("SIGTERM");
    const { units } = await a.leaves("stopped");
    expect(units).toMatchObject({ room: { moved: 0, failed: 0, stopped: 500, peers: 0, failures: {} } });
    const stopped = a.said("stop");
    // The hall, whose own time is longer, is stopped after all rooms: they have not waited one after the other.
    expect(stopped.map(({ id }) => id).at(-1)).toBe("hall");
    expect(stopped.map(({ id, visits }) => `${id as string} ${visits as number}`).toSorted()).toEqual(
      [...UNITS, "hall"].map((id) => `${id} 0`).toSorted(),
    );
    expect(b.said("run")).toEqual([]);
  },
);
