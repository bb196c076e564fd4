import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import type { Parcel } from "../../dist/exchange/parcel.js";
import { deferred } from "../../dist/util/deferred.js";
import { Actor } from "../support/actor.js";
import { ENGINES, startEngine, type EngineServer } from "../support/engines.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, stateOf, type Host } from "../support/hosts.js";
import { KillingProxy, READY } from "../support/killing-proxy.js";
import { openPair } from "../support/local-pair.js";
import { StallingProxy } from "../support/stalling-proxy.js";

let server!: EngineServer;

let services = 0;
const nextService = (): string => `leaving-${services++}`;
const pending = new Promise<never>(() => {});
const isHeld = async (host: Host): Promise<void> => {
  await expect.poll(() => host.hosts.isHeld).toBe(true);
};
/** Whole groups of three bytes: what follows does not change them. */
const base64 = (text: string): string =>
  Buffer.from(text.slice(0, text.length - (text.length % 3))).toString("base64");
/** How the question is recognized that adds a seat, and its answer. */
const entering = (service: string): { asked: string; answered: string | Buffer } =>
  server.name === "postgres"
    ? { asked: "insert into handover.seat", answered: READY }
    : { asked: base64(`/handover/${service}/known/`), answered: "succeeded" };

const offers = async (service: string): Promise<unknown[]> =>
  (await server.rows(service)).filter(({ what }) => what === "offer");

/** A process drains that has a value for another host. `end` is the drain's deadline. */
async function drainSlot(host: Host): Promise<{ end: () => void; outcome: Promise<unknown> }> {
  const state = stateOf(host);
  const counter = state.slot<number>("counter", { scope: "global", version: 1 });
  await expect.poll(() => host.hosts.exchange.peers("slot", "counter")).toHaveLength(1);
  const outcome = counter.initiate(7, { timeout: 60_000 });
  const hosts = { exchange: host.hosts.exchange, isSeatShared: Promise.resolve(false) };
  const context = new DrainContext(undefined, Promise.resolve(true), 60_000, hosts);
  const end = (): void => context.end();
  onTestFinished(end);
  state.beginDrain(context);
  void state.drain(context, Promise.resolve());
  return { end, outcome };
}

const COUNTER = { kind: "slot", label: "counter" };

/** A process that has slots on offer, for which the other one has no room. */
async function offerInVain(service: string, ...slots: Parcel[]) {
  const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
  const [a, b] = [join(), join()];
  b.hosts.exchange.subscribe("slot", "counter", () => "taken", { room: () => 0 });
  await expect.poll(() => a.hosts.exchange.peers("slot", "counter")).toHaveLength(1);
  const offered = a.hosts.exchange.offer(slots);
  await expect.poll(async () => offers(service)).toHaveLength(slots.length);
  return { a, offered };
}

describe.each(ENGINES)("over %s", (engine) => {
  beforeAll(async () => {
    server = await startEngine(engine);
  });
  afterAll(async () => server.remove());

  test("a value that another host takes as the drain ends is not said to be withdrawn", async () => {
    const service = nextService();
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const a = joinHosts(server.exchange({ service, at: proxy.port, lease: 60_000 }));
    const b = joinHosts(server.exchange({ service, lease: 60_000 }));
    const taking = deferred<void>();
    let isTaking = false;
    b.hosts.exchange.subscribe("slot", "counter", async () => {
      isTaking = true;
      await taking.promise;
      return "taken" as const;
    });
    const { end, outcome } = await drainSlot(a);
    await expect.poll(() => isTaking).toBe(true);
    proxy.stall();
    end();
    const claimed = await offers(service);
    taking.resolve();
    await expect.poll(async () => offers(service)).not.toEqual(claimed);
    proxy.goOn();
    expect(await outcome).toEqual({ how: "taken", by: b.name() });
  });

  test("what a process has on offer when it has left is lost to it, as another host may take it", async () => {
    const { a, offered } = await offerInVain(nextService(), parcel("1", COUNTER));
    await a.hosts.leave();
    expect(await offered[0]!.settled).toEqual({ how: "lost" });
  });

  test("a process that leaves before it has been told that it has a seat leaves none behind", async () => {
    const service = nextService();
    const proxy = await KillingProxy.start(server.port, entering(service), "after", async () => {});
    onTestFinished(() => proxy.close());
    const a = joinHosts(server.exchange({ service, at: proxy.port, lease: 4_000 }));
    await proxy.met;
    expect(await server.seats(service)).toHaveLength(1);
    await a.hosts.leave();
    expect(await server.seats(service)).toEqual([]);
  });

  test("a process that is replaced before it has been told that it has a seat gives that to its successor", async () => {
    const service = nextService();
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const mayEnter = deferred<void>();
    const exchange = server.exchange({ service, at: proxy.port, lease: 12_000 });
    const a = joinHosts(exchange, undefined, mayEnter.promise);
    const b = joinHosts(server.exchange({ service, lease: 12_000 }), undefined, pending);
    await Promise.all([a.hosts.check(), b.hosts.check()]);
    proxy.stall();
    mayEnter.resolve();
    const { owner, taker } = openPair();
    b.hosts.subscribeTo(taker);
    await expect.poll(() => owner.peers("seat")).toHaveLength(1);
    const given = a.hosts.giveTo(owner);
    proxy.goOn();
    expect(await given).toBe(true);
    await isHeld(b);
    expect(b.name().seat).toBe(a.name().seat);
  });

  test("a process that stops before it accepts does not wait for a seat", async () => {
    const service = nextService();
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const mayEnter = deferred<void>();
    const asking = joinHosts(server.exchange({ service, at: proxy.port }), undefined, mayEnter.promise);
    await asking.hosts.check();
    proxy.stall();
    mayEnter.resolve();
    const hosts = server.exchange({ service }).join({
      self: { generation: 0, pid: 1 },
      address: undefined,
      release: undefined,
      fences: new FencingTokens(),
      onFailure: () => {},
    }).state!;
    const told = [
      asking.hosts.announceDrain().then(() => "asking"),
      hosts.announceDrain().then(() => "not asking"),
    ];
    expect(await Promise.race(told)).toBe("not asking");
    proxy.goOn();
    expect(await told[0]).toBe("asking");
  });

  test("what a process that has left could not give up is removed after a while", async () => {
    const service = nextService();
    const a = joinHosts(server.exchange({ service, lease: 60_000 }));
    await isHeld(a);
    await a.hosts.directory.own("room", ["x", "y"]);
    await a.hosts.leave();
    const units = async (): Promise<unknown[]> =>
      (await server.rows(service)).filter(({ what }) => what === "unit");
    expect(await units()).toHaveLength(2);
    await server.forget(service);
    expect(await server.rows(service)).toEqual([]);
  });

  test("of the slots that a dead process has offered those without a ttl are removed after a while", async () => {
    const service = nextService();
    const lasting = parcel("2", { ...COUNTER, ttl: 600_000 });
    const { a } = await offerInVain(service, parcel("1", COUNTER), lasting);
    await server.expire(a.name().seat!);
    await server.forget(service);
    expect(await offers(service)).toHaveLength(1);
    const c = joinHosts(server.exchange({ service, lease: 60_000 }));
    const taken: string[] = [];
    c.hosts.exchange.subscribe("slot", "counter", ({ id }) => (taken.push(id), "taken"));
    await expect.poll(() => taken).toEqual(["2"]);
  });

  test("a successor that stops while its predecessor still has units leaves the seat to it, and no other host runs them", async () => {
    const service = nextService();
    const database = server.database({ service, lease: 60_000 });
    const a = await Actor.start("on-several-hosts.js", { database, freezes: true, probation: 60_000 });
    await a.tell("start", "x", 7);
    const other = await Actor.start("on-several-hosts.js", { database, recovers: true });
    const b = await a.upgrade();
    await a.says("freezing");
    b.kill("SIGTERM");
    await b.leaves("stopped");
    expect(await other.tell("startAll", ["x"])).toEqual(["ERR_ELSEWHERE"]);
    await a.tell("goOn");
    await a.leaves("stopped");
    expect(a.said("stop")).toMatchObject([{ id: "x", visits: 7 }]);
    expect(other.said("run")).toEqual([]);
    expect([...a.said("failed"), ...b.said("failed")]).toEqual([]);
  });
});
