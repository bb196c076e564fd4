import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { deferred } from "../../dist/util/deferred.js";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import { postgres } from "../../dist/postgres/index.js";
import type { ProcessState } from "../../dist/state/process-state.js";
import type { Units } from "../../dist/state/units/units.js";
import { joinHosts, stateOf, type Host } from "../support/hosts.js";
import { openPair } from "../support/local-pair.js";
import { Postgres } from "../support/postgres.js";
import { StallingProxy } from "../support/stalling-proxy.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;

/** A process with rooms, and what has happened to them. */
function program(host: Host): { state: ProcessState; rooms: Units<string, string>; events: string[] } {
  const state = stateOf(host);
  const events: string[] = [];
  const rooms = state.units<string, string>("room", {
    scope: "global",
    version: 1,
    run: (id, room) => (events.push(`run ${id}`), room),
    freeze: (_, room) => room,
  });
  return { state, rooms, events };
}

/** An upgrade in place to a release without rooms: they go to other hosts. */
function upgrade(host: Host, state: ProcessState): void {
  const { owner } = openPair();
  const hosts = { exchange: host.hosts.exchange, isSeatShared: Promise.resolve(true) };
  const context = new DrainContext(owner, new Promise(() => {}), 60_000, hosts);
  onTestFinished(() => context.end());
  state.beginDrain(context);
  void state.drain(context, Promise.resolve());
}

/** An upgrade in place to a release that gets no seat: slots go to other hosts. */
function upgradeWithoutSeat(host: Host, state: ProcessState): void {
  const { owner } = openPair();
  const hosts = { exchange: host.hosts.exchange, isSeatShared: Promise.resolve(false) };
  const context = new DrainContext(owner, new Promise(() => {}), 60_000, hosts);
  onTestFinished(() => context.end());
  state.beginDrain(context);
  void state.drain(context, Promise.resolve());
}

const offers = async (service: string): Promise<unknown[]> =>
  server.query("select from handover.offer where service = $1", [service]);

describe("a rollback of a process whose units go to other hosts", () => {
  test("a unit that is on offer is taken back before it runs here again", async () => {
    const service = `rollbacks ${services++}`;
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [a, b] = [join(), join()];
    const { state, rooms, events } = program(a);
    await rooms.start("x", "state");
    let room = 0;
    const taken: string[] = [];
    const take = ({ id }: { id: string }): "taken" => (taken.push(id), "taken");
    b.hosts.exchange.subscribe("unit", "room", take, { room: () => room });
    await expect.poll(() => a.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    upgrade(a, state);
    await expect.poll(async () => offers(service)).toHaveLength(1);
    state.rollBack();
    await expect.poll(() => events).toEqual(["run x", "run x"]);
    expect(await offers(service)).toEqual([]);
    room = 1;
    expect(await a.hosts.directory.where("room", "x")).toEqual(a.name());
    expect(taken).toEqual([]);
  });

  test("a unit that another host has taken does not run here again, also if the database is away then", async () => {
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const service = `rollbacks ${services++}`;
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    const a = joinHosts(postgres({ service, url, lease: 6_000, migrate: true }));
    const b = joinHosts(server.exchange({ service, lease: 6_000 }));
    const { state, rooms, events } = program(a);
    await rooms.start("x", "state");
    b.hosts.exchange.subscribe("unit", "room", () => "taken");
    await expect.poll(() => a.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    upgrade(a, state);
    await expect.poll(() => b.hosts.directory.where("room", "x")).toEqual(b.name());
    await expect.poll(() => a.hosts.status().offered).toBe(0);
    proxy.stall();
    state.rollBack();
    await expect.poll(() => a.failures).toMatchObject([{ code: "ERR_LEASE" }]);
    expect(events).toEqual(["run x"]);
  });

  test("a unit that another host takes while it is taken back does not run here", async () => {
    const service = `rollbacks ${services++}`;
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [a, b] = [join(), join()];
    const { state, rooms, events } = program(a);
    await rooms.start("x", "state");
    b.hosts.exchange.subscribe("unit", "room", () => "taken");
    await expect.poll(() => a.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    const row = "select from handover.unit where service = $1 for update";
    const release = await server.hold(row, [service]);
    upgrade(a, state);
    const waiting =
      "select from pg_stat_activity where wait_event_type = 'Lock' and query like 'with mine as%'";
    await expect.poll(() => server.query(waiting)).toHaveLength(1);
    state.rollBack();
    const started = rooms.start("x", "state");
    await release();
    await expect(started).rejects.toMatchObject({ code: "ERR_ELSEWHERE", owner: { pid: b.name().pid } });
    expect(events).toEqual(["run x"]);
  });
});

describe("a rollback of a process whose slots go to other hosts", () => {
  test("a slot that another host is taking is given back to this process when that has given it up", async () => {
    const service = `rollbacks ${services++}`;
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [a, b] = [join(), join()];
    const events: string[] = [];
    b.hosts.exchange.subscribe("slot", "counter", async (_, { signal }) => {
      events.push("offered");
      signal.addEventListener("abort", () => events.push("given up"));
      return new Promise(() => {});
    });
    const state = stateOf(a);
    const counter = state.slot<number>("counter", { scope: "global", version: 1 });
    const outcome = counter.initiate(41, { timeout: 60_000 });
    counter.subscribe(({ data }) => events.push(`back: ${data}`));
    await expect.poll(() => a.hosts.exchange.peers("slot", "counter")).toHaveLength(1);
    upgradeWithoutSeat(a, state);
    await expect.poll(() => events).toEqual(["offered"]);
    state.rollBack();
    expect(await outcome).toMatchObject({ how: "withdrawn" });
    expect(events).toEqual(["offered", "given up", "back: 41"]);
  });

  test("a slot that another host takes while it is taken back is not this process's, nor the next successor's", async () => {
    const service = `rollbacks ${services++}`;
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [a, b] = [join(), join()];
    const [offered, mayTake] = [deferred<void>(), deferred<void>()];
    b.hosts.exchange.subscribe("slot", "counter", async () => {
      offered.resolve();
      await mayTake.promise;
      return "taken" as const;
    });
    const state = stateOf(a);
    const counter = state.slot<number>("counter", { scope: "global", version: 1 });
    const outcome = counter.initiate(41, { timeout: 60_000 });
    const taken: number[] = [];
    counter.subscribe(({ data }) => taken.push(data));
    await expect.poll(() => a.hosts.exchange.peers("slot", "counter")).toHaveLength(1);
    upgradeWithoutSeat(a, state);
    await offered.promise;
    const release = await server.hold("select from handover.offer where service = $1 for update", [service]);
    mayTake.resolve();
    const waiting =
      "select from pg_stat_activity where wait_event_type = 'Lock' and query like 'with mine as%'";
    await expect.poll(() => server.query(waiting)).toHaveLength(1);
    state.rollBack();
    // The next one begins before it is known who has the slot.
    const { owner, taker } = openPair();
    taker.subscribe("slot", undefined, ({ id }) => (taken.push(Number(id)), "taken"));
    await expect.poll(() => owner.peers("slot", "counter")).toHaveLength(1);
    const context = new DrainContext(owner, new Promise(() => {}), 60_000);
    onTestFinished(() => context.end());
    state.beginDrain(context);
    void state.drain(context, Promise.resolve());
    await release();
    expect(await outcome).toMatchObject({ how: "taken", by: { seat: b.name().seat } });
    expect(taken).toEqual([]);
  });
});
