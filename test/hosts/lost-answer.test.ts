import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Units } from "../../dist/state/units/units.js";
import { ENGINES, startEngine, type EngineServer } from "../support/engines.js";
import { joinHosts, stateOf, type Host } from "../support/hosts.js";
import { KillingProxy, READY, type Statement } from "../support/killing-proxy.js";
import { StallingProxy } from "../support/stalling-proxy.js";

let server!: EngineServer;

let services = 0;
const nextService = (): string => `lost-${services++}`;
const fence = expect.any(Number) as number;

/** How the question for a unit is recognized, and its answer. */
function owning(service: string): Statement {
  if (server.name === "postgres") return { asked: "insert into handover.unit", answered: READY };
  const key = `/handover/${service}/unit/`;
  // Whole groups of three bytes: what follows does not change them.
  const asked = Buffer.from(key.slice(0, key.length - (key.length % 3))).toString("base64");
  return { asked, answered: "succeeded" };
}

/** A host whose first question for a unit is done, and its answer lost. `onLost` is called as the connection is cut. */
async function join(unitTimeout: number, onLost: (engine: StallingProxy) => void) {
  const service = nextService();
  const proxy = await KillingProxy.start(server.port, owning(service), "after", async () => {
    onLost(engine);
    proxy.cut();
  });
  onTestFinished(() => proxy.close());
  const engine = await StallingProxy.start(proxy.port);
  onTestFinished(() => engine.close());
  const host = joinHosts(server.exchange({ service, at: engine.port, lease: 60_000 }));
  const other = joinHosts(server.exchange({ service, lease: 60_000 }));
  await expect.poll(() => host.hosts.isHeld && other.hosts.isHeld).toBe(true);
  return { engine, host, rooms: roomsOf(host, unitTimeout), other };
}

function roomsOf(host: Host, unitTimeout: number): Units<string, string> {
  return stateOf(host).units<string, string>("room", {
    scope: "global",
    version: 1,
    run: (_, room) => room,
    freeze: (_, room) => room,
    stop: () => {},
    drain: { unitTimeout },
  });
}

describe.each(ENGINES)("over %s", (name) => {
  beforeAll(async () => {
    server = await startEngine(name);
  });
  afterAll(async () => server.remove());

  test("a unit that is this process's, though the answer was lost that would have said so, runs", async () => {
    const { host, rooms, other } = await join(60_000, () => {});
    expect(await rooms.start("x", "of x")).toBe("of x");
    expect(await other.hosts.directory.own("room", ["x"])).toEqual([{ owner: host.name() }]);
  });

  test("a unit whose start is over when the engine answers at last is given up, and other hosts may run it", async () => {
    const { engine, rooms, other } = await join(1_000, (one) => one.stall());
    await expect(rooms.start("x", "of x")).rejects.toMatchObject({ code: "ERR_UNIT" });
    engine.goOn();
    await expect.poll(async () => other.hosts.directory.own("room", ["x"])).toEqual([{ fence }]);
  });
});
