import { expect, onTestFinished, test } from "vitest";
import { migrate } from "../../dist/postgres/index.js";
import { Actor } from "../support/actor.js";
import { Postgres } from "../support/postgres.js";
import { StallingProxy } from "../support/stalling-proxy.js";

const UNITS = Array.from({ length: 500 }, (_, n) => `r${n}`);

// Of a room `unitTimeout` is 500 ms, of a hall 4,000. Five rooms move at a time.
test.each(["is killed", "stalls"])(
  "a database that %s before a stop is waited for once, and all units are stopped with their states",
  async (how) => {
    const server = await Postgres.start();
    onTestFinished(async () => server.remove());
    await migrate({ url: server.url });
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    const settings = { database: { service: "away", url, lease: 60_000 }, patient: {} };
    const a = await Actor.start("on-several-hosts.js", settings);
    expect(await a.tell("startAll", UNITS)).toEqual(UNITS.map(() => "here"));
    const b = await Actor.start("on-several-hosts.js", { ...settings, patient: undefined });
    await expect.poll(async () => server.query("select from handover.seat")).toHaveLength(2);
    if (how === "stalls") proxy.stall();
    else await server.kill();
    a.kill("SIGTERM");
    const { units } = await a.leaves("stopped");
    expect(units).toMatchObject({ room: { moved: 0, failed: 0, stopped: 500, peers: 0, failures: {} } });
    const stopped = a.said("stop");
    // The hall, whose own time is longer, is stopped after all rooms: they have not waited one after the other.
    expect(stopped.map(({ id }) => id)).toEqual([...UNITS, "hall"]);
    expect(stopped.map(({ visits }) => visits)).toEqual([...UNITS, "hall"].map(() => 0));
    expect(b.said("run")).toEqual([]);
  },
);
