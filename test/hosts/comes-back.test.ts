import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ENGINES, startEngine, type EngineServer } from "../support/engines.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, untilPeers, type Host } from "../support/hosts.js";
import { StallingProxy } from "../support/stalling-proxy.js";

let server!: EngineServer;

let services = 0;
const unit = parcel("x", { kind: "unit", label: "room" });

/** The hosts of one service, and what they offer. */
function newService(): { join: (at?: number) => Host; offers: () => Promise<unknown[]> } {
  const service = `back ${services++}`;
  return {
    join: (at) => joinHosts(server.exchange({ service, lease: 6_000, ...(at === undefined ? {} : { at }) })),
    offers: async () => (await server.rows(service)).filter(({ what }) => what === "offer"),
  };
}

/** Lets a host die, as the engine sees it. */
async function die(host: Host): Promise<void> {
  await server.expire(host.name().seat!);
  await host.hosts.leave();
}

/** A host takes the unit, and dies before it has said so. */
async function dieOf(join: () => Host): Promise<void> {
  const dying = join();
  const seen: string[] = [];
  const take = async ({ id }: { id: string }): Promise<never> => {
    seen.push(id);
    return new Promise(() => {});
  };
  // It would take the unit once more between the end of its seat and its own end, and count as dead twice.
  dying.hosts.exchange.subscribe("unit", "room", take, { room: () => (seen.length === 0 ? 1 : 0) });
  await expect.poll(() => seen).toEqual(["x"]);
  await die(dying);
}

/** The units that a host recovers. It looks for those of the dead with each beat, and beats when it is told of other hosts. */
function recovered(host: Host): string[] {
  const found: string[] = [];
  host.hosts.directory.orphans("room", (id) => found.push(id));
  return found;
}

describe.each(ENGINES)("over %s", (engine) => {
  beforeAll(async () => {
    server = await startEngine(engine);
  });
  afterAll(async () => server.remove());

  test("a value whose time is over while it is on offer comes back to its owner, and does not count as taken", async () => {
    const { join, offers } = newService();
    const owner = join();
    await expect.poll(() => owner.hosts.isHeld).toBe(true);
    const [offered] = owner.hosts.exchange.offer([parcel("1", { ttl: 1 })]);
    expect(await offered!.settled).toEqual({ how: "withdrawn", refusals: [], died: false });
    expect(await offers()).toEqual([]);
  });

  test("a unit with which three hosts have died, as has its owner, is recovered by another host", async () => {
    const { join, offers } = newService();
    const owner = join();
    await owner.hosts.directory.own("room", ["x"]);
    const waiting = join();
    waiting.hosts.exchange.subscribe("unit", "room", () => "taken", { room: () => 0 });
    await untilPeers(owner, 1);
    owner.hosts.exchange.offer([unit]);
    await expect.poll(offers).toHaveLength(1);
    await die(owner);
    for (let n = 1; n <= 3; n++) await dieOf(join);
    const found = recovered(join());
    await expect.poll(() => found).toEqual(["x"]);
  });

  test("a unit with which three hosts have died is recovered by another host, if its owner dies before it has taken it back", async () => {
    const { join, offers } = newService();
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const owner = join(proxy.port);
    await owner.hosts.directory.own("room", ["x"]);
    const { seat } = owner.name();
    const waiting = join();
    waiting.hosts.exchange.subscribe("unit", "room", () => "taken", { room: () => 0 });
    await untilPeers(owner, 1);
    owner.hosts.exchange.offer([unit]);
    await expect.poll(offers).toHaveLength(1);
    for (let n = 1; n <= 2; n++) await dieOf(join);
    proxy.stall();
    await dieOf(join);
    const heir = join();
    const found = recovered(heir);
    await expect.poll(() => heir.hosts.isHeld).toBe(true);
    await server.expire(seat!);
    await expect.poll(() => found).toEqual(["x"]);
  });
});
