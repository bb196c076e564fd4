import { once } from "node:events";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import type { ProcessState } from "../../dist/state/process-state.js";
import { deferred } from "../../dist/util/deferred.js";
import { joinHosts, stateOf, type Host } from "../support/hosts.js";
import { Postgres } from "../support/postgres.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;

/** A process of a service. */
function processOf(service: string): { host: Host; state: ProcessState } {
  const host = joinHosts(server.exchange({ service, lease: 60_000 }));
  return { host, state: stateOf(host) };
}

test("a role whose acquire() is late is no other host's before that has ended", async () => {
  const service = `roles ${services++}`;
  const [a, b] = [processOf(service), processOf(service)];
  await expect.poll(() => a.host.hosts.isHeld && b.host.hosts.isHeld).toBe(true);
  const events: string[] = [];
  const late = deferred<void>();
  await a.state.roles.add("cron", {
    scope: "global",
    timeout: 50,
    acquire: async () => {
      events.push("a begins");
      await late.promise;
    },
    release: () => events.push("a ends"),
  });
  const warned = once(process, "warning") as Promise<[Error]>;
  await a.state.roles.acquire();
  expect((await warned)[0]).toMatchObject({ code: "HANDOVER_ROLE" });
  // It takes as long as the release of a role.
  await expect.poll(() => a.state.roles.releaseAll()).toMatchObject([{ code: "ERR_ROLE" }]);
  expect(await b.host.hosts.roles.acquire("cron")).toBeUndefined();
  late.resolve();
  await expect.poll(async () => b.host.hosts.roles.acquire("cron")).toEqual(expect.any(Number));
  expect(events).toEqual(["a begins", "a ends"]);
});

test("a role that could not be acquired is tried again, also if the next beat is far and no other host wants it", async () => {
  // A beat comes after 200 s.
  const host = joinHosts(server.exchange({ service: `roles ${services++}`, lease: 600_000 }));
  const state = stateOf(host);
  let attempts = 0;
  await state.roles.add("cron", {
    scope: "global",
    acquire: () => {
      if (++attempts === 1) throw new Error("not yet");
    },
    release: () => {},
  });
  await state.roles.acquire();
  await expect.poll(() => attempts).toBe(2);
});

test("a role that cannot be released when its lease has ended is told", async () => {
  const { host, state } = processOf(`roles ${services++}`);
  await state.roles.add("cron", {
    scope: "global",
    acquire: () => {},
    release: () => {
      throw new Error("not now");
    },
  });
  await state.roles.acquire();
  await expect.poll(() => host.hosts.roles.isHeld("cron")).toBe(true);
  const warned = once(process, "warning") as Promise<[Error]>;
  await server.query("update handover.seat set seen = now() - lease * interval '2 ms' where seat = $1", [
    host.name().seat,
  ]);
  host.hosts.exchange.subscribe("unit", "beat", () => "taken");
  expect((await warned)[0]).toMatchObject({
    code: "HANDOVER_ROLE",
    message: expect.stringMatching(/cannot release the role "cron": not now/) as string,
  });
});

test("a value that waits in the database when the drain is over is parked, and is not said to be withdrawn", async () => {
  const service = `slots ${services++}`;
  const { host, state } = processOf(service);
  const counter = state.slot<number>("counter", { scope: "global", version: 1 });
  await expect.poll(() => host.hosts.isHeld).toBe(true);
  const outcome = counter.initiate(7, { timeout: 60_000, ttl: 60_000 });
  const hosts = { exchange: host.hosts.exchange, isSeatShared: Promise.resolve(false) };
  const context = new DrainContext(undefined, Promise.resolve(true), 60_000, hosts);
  onTestFinished(() => context.end());
  state.beginDrain(context);
  void state.drain(context, Promise.resolve());
  await expect.poll(() => host.hosts.status().offered).toBe(1);
  await expect
    .poll(async () => server.query("select from handover.offer where service = $1", [service]))
    .toHaveLength(1);
  context.end();
  expect(await outcome).toEqual({ how: "parked", refusals: [] });
});
