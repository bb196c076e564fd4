import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ENGINES, startEngine, type EngineServer } from "../support/engines.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, type Host } from "../support/hosts.js";

let server!: EngineServer;

let services = 0;
const nextService = (): string => `leaving-${services++}`;
const isHeld = async (host: Host): Promise<void> => {
  await expect.poll(() => host.hosts.isHeld).toBe(true);
};
describe.each(ENGINES)("over %s", (engine) => {
  beforeAll(async () => {
    server = await startEngine(engine);
  });
  afterAll(async () => server.remove());

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
    const join = (): Host => joinHosts(server.exchange({ service, lease: 60_000 }));
    const [a, b] = [join(), join()];
    b.hosts.exchange.subscribe("slot", "counter", () => "taken", { room: () => 0 });
    await expect.poll(() => a.hosts.exchange.peers("slot", "counter")).toHaveLength(1);
    const slot = { kind: "slot", label: "counter" };
    a.hosts.exchange.offer([parcel("1", slot), parcel("2", { ...slot, ttl: 600_000 })]);
    const offers = async (): Promise<unknown[]> =>
      (await server.rows(service)).filter(({ what }) => what === "offer");
    await expect.poll(offers).toHaveLength(2);
    await server.expire(a.name().seat!);
    await server.forget(service);
    expect(await offers()).toHaveLength(1);
    const c = join();
    const taken: string[] = [];
    c.hosts.exchange.subscribe("slot", "counter", ({ id }) => (taken.push(id), "taken"));
    await expect.poll(() => taken).toEqual(["2"]);
  });
});
