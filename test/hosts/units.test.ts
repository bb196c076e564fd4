import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import type { ProcessState } from "../../dist/state/process-state.js";
import type { UnitDefinition } from "../../dist/state/units/unit-definition.js";
import type { Units } from "../../dist/state/units/units.js";
import { deferred, type Deferred } from "../../dist/util/deferred.js";
import { joinHosts, stateOf, type Host } from "../support/hosts.js";
import { openPair, type LocalPair } from "../support/local-pair.js";
import { Postgres } from "../support/postgres.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;
const pending = new Promise<never>(() => {});

/** The processes of one service. */
function newService(lease = 60_000): {
  service: string;
  join: (predecessors?: Promise<unknown>) => Host;
} {
  const service = `units ${services++}`;
  return {
    service,
    join: (predecessors) => joinHosts(server.exchange({ service, lease }), undefined, predecessors),
  };
}

interface Program {
  state: ProcessState;
  rooms: Units<string, string>;
  events: string[];
}

/** A process with rooms, and what has happened to them. */
function program(host: Host, definition: Partial<UnitDefinition<string, string>> = {}): Program {
  const state = stateOf(host);
  const events: string[] = [];
  const rooms = state.units<string, string>("room", {
    scope: "global",
    version: 1,
    run: (id, room) => (events.push(`run ${id} ${room}`), room),
    freeze: (_, room) => room,
    stop: (id, room) => events.push(`stop ${id} ${room}`),
    ...definition,
  });
  return { state, rooms, events };
}

/** Lets a successor wait for the seat of its predecessor. */
async function awaitSeat(from: Host, { host, state }: Program & { host: Host }): Promise<LocalPair> {
  host.fences.advanceTo(from.fences.last);
  const pair = openPair(undefined, undefined, undefined, () => host.fences.next());
  await host.hosts.check();
  state.subscribeTo(pair.taker);
  await expect.poll(() => pair.owner.peers("seat")).toHaveLength(1);
  return pair;
}

/** Gives the seat of a process to its successor. */
async function give(from: Host, to: Program & { host: Host }): Promise<LocalPair> {
  const pair = await awaitSeat(from, to);
  expect(await from.hosts.giveTo(pair.owner)).toBe(true);
  return pair;
}

/** Lets the state of a process move to its successor, or elsewhere. */
function drain(host: Host, { state }: Program, pair?: LocalPair): DrainContext {
  const hosts = { exchange: host.hosts.exchange, isSeatShared: Promise.resolve(pair !== undefined) };
  const confirmed = pair === undefined ? Promise.resolve(true) : pending;
  const context = new DrainContext(pair?.owner, confirmed, 60_000, hosts);
  onTestFinished(() => context.end());
  state.beginDrain(context);
  void state.drain(context, Promise.resolve());
  return context;
}

const expire = async (host: Host): Promise<unknown> =>
  server.query("update handover.seat set seen = now() - lease * interval '2 ms' where seat = $1", [
    host.name().seat,
  ]);

/** Lets a process look for units of the dead. */
const beat = (host: Host): void => host.hosts.exchange.subscribe("unit", "beat", () => "taken")();

test("a unit that the successor cannot run stays the unit of its seat, and no other host may start it", async () => {
  const { join } = newService();
  const [a, b, other] = [join(), join(pending), join()];
  const old = program(a);
  await old.rooms.start("x", "state");
  const run = (id: string): never => {
    next.events.push(`run ${id}`);
    throw new Error("it cannot run");
  };
  const next: Program = program(b, { run });
  const pair = await give(a, { ...next, host: b });
  drain(a, old, pair);
  await expect.poll(() => next.events).toEqual(["run x"]);
  expect(await b.hosts.directory.where("room", "x")).toMatchObject({ seat: a.name().seat });
  expect(await other.hosts.directory.own("room", ["x"])).toMatchObject([{ owner: { seat: a.name().seat } }]);
});

test("a unit that has arrived as its process is replaced moves on, though the database has not answered yet that it has", async () => {
  const { service, join } = newService();
  const [owner, a, b] = [join(), join(), join(pending)];
  const first = program(owner);
  await first.rooms.start("x", "state");
  const mayRun = deferred<void>();
  const run = async (id: string, room: string): Promise<string> => {
    old.events.push(`run ${id} ${room}`);
    await mayRun.promise;
    return room;
  };
  const old: Program = program(a, { run });
  const next = program(b);
  await expect.poll(() => owner.hosts.exchange.peers("unit", "room")).toHaveLength(1);
  drain(owner, first);
  await expect.poll(() => old.events).toEqual(["run x state"]);
  const pair = await awaitSeat(a, { ...next, host: b });
  const release = await server.hold("select from handover.unit where service = $1 for update", [service]);
  mayRun.resolve();
  const waiting = "select from pg_stat_activity where wait_event_type = 'Lock'";
  await expect.poll(() => server.query(waiting)).toHaveLength(1);
  const giving = a.hosts.giveTo(pair.owner);
  await release();
  expect(await giving).toBe(true);
  drain(a, old, pair);
  await expect.poll(() => next.events).toEqual(["run x state"]);
  expect(first.events).toEqual(["run x state"]);
  expect(await b.hosts.directory.where("room", "x")).toMatchObject({ seat: a.name().seat });
});

test("units that a successor refuses, as it is told to stop, move to another host", async () => {
  const { join } = newService();
  const [a, b] = [join(), join(pending)];
  const old = program(a);
  await old.rooms.start("x", "state");
  const next = program(b);
  const pair = await give(a, { ...next, host: b });
  // One that has joined since the seat was given counts as well.
  const elsewhere = program(join());
  await expect.poll(() => a.hosts.exchange.peers("unit", "room")).toHaveLength(1);
  drain(b, next);
  const hosts = { exchange: a.hosts.exchange, isSeatShared: Promise.resolve(true) };
  const context = new DrainContext(pair.owner, Promise.resolve(true), 60_000, hosts);
  onTestFinished(() => context.end());
  old.state.beginDrain(context);
  const reports = await old.state.drain(context, Promise.resolve());
  expect(reports).toMatchObject({ room: { moved: 1, stopped: 0, failures: {} } });
  expect(elsewhere.events).toEqual(["run x state"]);
  expect(old.events).toEqual(["run x state"]);
});

test("units are stopped in time if the successor does not say whether it has the seat", async () => {
  const { join } = newService();
  const a = join();
  const { state, rooms, events } = program(a);
  await rooms.start("x", "state");
  const { owner } = openPair();
  const context = new DrainContext(owner, pending, 6_000, {
    exchange: a.hosts.exchange,
    isSeatShared: pending,
  });
  state.beginDrain(context);
  const reports = await state.drain(context, Promise.resolve());
  context.end();
  expect(events).toEqual(["run x state", "stop x state"]);
  expect(reports).toMatchObject({ room: { stopped: 1, failed: 0 } });
});

test("a successor that has lost the seat of its predecessor takes no units of that seat", async () => {
  const { service, join } = newService(6_000);
  const [a, b] = [join(), join(pending)];
  const old = program(a);
  await old.rooms.start("x", "state");
  const next = program(b);
  const pair = await give(a, { ...next, host: b });
  await expect
    .poll(async () =>
      server.query("select holder from handover.seat where about ->> 'pid' = $1", [String(b.name().pid)]),
    )
    .toHaveLength(1);
  // As if it had not run for the whole lease.
  await server.query("update handover.seat set holder = 'another' where service = $1", [service]);
  await expect.poll(() => b.failures).toMatchObject([{ code: "ERR_LEASE" }]);
  await expect.poll(() => b.hosts.isHeld).toBe(true);
  expect(a.hosts.isHeld).toBe(true);
  const context = drain(a, old, pair);
  await expect.poll(() => pair.owner.peers("unit", "room")).toHaveLength(1);
  await expect.poll(() => old.rooms.size).toBe(0);
  context.end();
  await expect.poll(() => old.events).toEqual(["run x state", "stop x state"]);
  expect(next.events).toEqual([]);
});

/** A process that has taken a unit of a host that has died, and whose `recover` is asked. */
async function recovering(
  lease?: number,
): Promise<Program & { host: Host; join: () => Host; asked: Deferred<string>[] }> {
  const { join } = newService(lease);
  const dead = join();
  await dead.hosts.directory.own("room", ["x"]);
  const asked: Deferred<string>[] = [];
  const host = join();
  const recover = async (): Promise<string> => {
    const answer = deferred<string>();
    asked.push(answer);
    return answer.promise;
  };
  const one = program(host, { recover, drain: { unitTimeout: 200 } });
  await expect.poll(() => host.hosts.isHeld).toBe(true);
  await expire(dead);
  beat(host);
  await expect.poll(() => asked).toHaveLength(1);
  return { ...one, host, join, asked };
}

test("a unit does not run whose lease has ended while it was recovered, also if its process has a new one", async () => {
  const { host, events, asked } = await recovering();
  await expire(host);
  beat(host);
  await expect.poll(() => host.failures).toMatchObject([{ code: "ERR_LEASE" }]);
  // As the unit of a host that has died, which was this one.
  await expect.poll(() => asked).toHaveLength(2);
  asked[0]!.resolve("first");
  asked[1]!.resolve("second");
  await expect.poll(() => events).toEqual(["run x second"]);
});

test("start() does not wait for a recover() that takes longer than unitTimeout", async () => {
  const { rooms, events, asked } = await recovering();
  await expect(rooms.start("x", "new")).rejects.toMatchObject({ code: "ERR_UNIT" });
  asked[0]!.resolve("recovered");
  await expect.poll(() => events).toEqual(["run x recovered"]);
});

test("a unit that a process was recovering when it was stopped is recovered by another host", async () => {
  const one = await recovering();
  drain(one.host, one);
  const other = one.join();
  const { events } = program(other, { recover: () => "elsewhere" });
  await expect.poll(() => other.hosts.isHeld).toBe(true);
  one.asked[0]!.resolve("here");
  await one.host.hosts.leave();
  beat(other);
  await expect.poll(() => events).toEqual(["run x elsewhere"]);
  expect(one.events).toEqual([]);
});
