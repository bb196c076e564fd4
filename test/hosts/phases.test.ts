import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import type { Settlement } from "../../dist/exchange/parcel.js";
import { STATEMENTS } from "../../dist/postgres/statements.js";
import { ENGINES, startEngine, type EngineName, type EngineServer } from "../support/engines.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, type Host } from "../support/hosts.js";
import { KillingProxy, READY, type Moment, type Statement } from "../support/killing-proxy.js";

/** By hand, all cases of etcd: `HANDOVER_FAULTS=every npx vitest run test/hosts/phases.test.ts` */
const isEvery = process.env["HANDOVER_FAULTS"] === "every";

let server!: EngineServer;

const ofPostgres = (statement: string): Statement => ({ asked: statement.slice(0, 100), answered: READY });

/** A request to etcd's gateway that has an operation with a key of this kind. */
const ofEtcd =
  (operation: "range" | "put" | "delete_range", kind: string) =>
  (service: string): Statement => {
    const key = Buffer.from(`/handover/${service}/${kind}`);
    // Three bytes are four characters: the rest depends on what follows.
    const start = key.subarray(0, key.length - (key.length % 3)).toString("base64");
    return { asked: `"request_${operation}":{"key":"${start}`, answered: "HTTP/1.1 200" };
  };
const ofPath = (path: string) => (): Statement => ({ asked: `POST ${path} `, answered: "HTTP/1.1 200" });

const PHASES: Record<EngineName, Record<string, (service: string) => Statement>> = {
  postgres: Object.fromEntries(
    (
      [
        "enter",
        "others",
        "beat",
        "own",
        "offer",
        "step",
        "look",
        "refuse",
        "withdraw",
        "sweep",
        "acquire",
        "release",
        "disown",
        "owners",
        "leave",
      ] as const
    ).map((phase) => [phase, () => ofPostgres(STATEMENTS[phase])]),
  ),
  etcd: {
    own: ofEtcd("put", "unit/"),
    offer: ofEtcd("put", "offer/"),
    claim: ofEtcd("put", "lot/"),
    settle: ofEtcd("put", "done/"),
    refuse: ofEtcd("put", "note/"),
    withdraw: ofEtcd("put", "back/"),
    acquire: ofEtcd("put", "role/"),
    disown: ofEtcd("delete_range", "unit/"),
    ...(isEvery
      ? {
          grant: ofPath("/v3/lease/grant"),
          enter: ofEtcd("put", "known/"),
          renew: ofPath("/v3/lease/keepalive"),
          beat: ofEtcd("put", "bell/seat/"),
          number: ofEtcd("put", "number"),
          look: ofEtcd("range", "note/"),
          sweep: ofEtcd("range", "expiry/"),
          release: ofEtcd("put", "bell/all/role"),
          leave: ofPath("/v3/lease/revoke"),
        }
      : {}),
  },
};

/** With etcd in short only the worse of the two: the answer is missing. */
const cases = (engine: EngineName): [Moment, string, (service: string) => Statement][] =>
  Object.entries(PHASES[engine]).flatMap(([phase, statement]) =>
    (engine === "etcd" && !isEvery ? (["after"] as const) : (["before", "after"] as const)).map(
      (moment): [Moment, string, (service: string) => Statement] => [moment, phase, statement],
    ),
  );

/** Asks again as long as the database is away. */
async function persist<T>(ask: () => Promise<T | undefined>): Promise<T> {
  const answer = await vi.waitUntil(
    async () => {
      try {
        const value = await ask();
        return value === undefined ? undefined : { value };
      } catch (error) {
        if ((error as { code?: string }).code !== "ERR_EXCHANGE") throw error;
        return undefined;
      }
    },
    { timeout: 100_000 },
  );
  return answer.value;
}

describe.each(ENGINES)("over %s", (engine) => {
  beforeAll(async () => {
    server = await startEngine(engine);
  });
  afterAll(async () => server.remove());

  test.each(cases(engine))(
    "a database that is killed %s the statement %s is done leaves each unit and role with one process",
    async (moment, phase, statement) => {
      const service = `${moment} ${phase}`;
      const proxy = await KillingProxy.start(server.port, statement(service), moment, async () => {
        await server.kill();
        await server.run();
      });
      onTestFinished(() => proxy.close());
      const join = async (): Promise<Host> => {
        const host = joinHosts(server.exchange({ service, at: proxy.port, lease: 30_000 }));
        await persist(async () => host.hosts.check().then(() => true));
        host.hosts.enter(undefined);
        return host;
      };
      const [a, b] = [await join(), await join()];
      const running = new Set<string>();
      b.hosts.exchange.subscribe("unit", "room", ({ id }, { signal }) => {
        if (id === "refused") return { code: "ERR_MINE" };
        running.add(id);
        signal.addEventListener("abort", () => running.delete(id));
        return id === "slow" ? new Promise(() => {}) : "taken";
      });
      const ids = ["refused", "slow", ...Array.from({ length: 20 }, (_, n) => String(n))];
      await persist(async () => a.hosts.directory.own("room", ids));
      await expect.poll(() => a.hosts.exchange.peers("unit", "room")).toHaveLength(1);

      const settled = new Map<string, Settlement["how"]>();
      const offered = a.hosts.exchange.offer(ids.map((id) => parcel(id, { kind: "unit", label: "room" })));
      const all = offered.map(async (one, n) => settled.set(ids[n]!, (await one.settled).how));
      await expect.poll(() => settled.has("slow") || running.has("slow")).toBe(true);
      offered[1]!.withdraw();
      await Promise.all(all);
      await expect
        .poll(() => [...running].toSorted())
        .toEqual(ids.filter((id) => settled.get(id) === "taken").toSorted());
      expect([...settled.values()]).not.toContain("lost");

      await persist(async () => a.hosts.roles.acquire("cron"));
      await a.hosts.roles.release("cron");
      await persist(async () => b.hosts.roles.acquire("cron"));

      const [last] = await persist(async () => a.hosts.directory.own("room", ["last"]));
      a.hosts.directory.disown("room", [{ id: "last", fence: (last as { fence: number }).fence }]);
      // Until the word has arrived the unit is elsewhere, and `where` asks for its owner.
      await persist(async () => {
        await a.hosts.directory.where("room", "last");
        const [result] = await b.hosts.directory.own("room", ["last"]);
        return "fence" in result! ? result : undefined;
      });
      await b.hosts.leave();
      await proxy.met;
      expect([...a.failures, ...b.failures]).toEqual([]);
    },
  );

  test("a host runs the units of a dead one that it has got, though the answer was lost", async () => {
    const phase = engine === "etcd" ? ofEtcd("put", "unit/")("orphans") : ofPostgres(STATEMENTS.takeOrphans);
    const proxy = await KillingProxy.start(server.port, phase, "after", async () => {
      await server.kill();
      await server.run();
    });
    onTestFinished(() => proxy.close());
    const [dead, other, taker] = [server.port, server.port, proxy.port].map((at) =>
      joinHosts(server.exchange({ service: "orphans", at, lease: 60_000 })),
    ) as [Host, Host, Host];
    const [x] = await dead.hosts.directory.own("room", ["x", "y"]);
    await expect.poll(() => taker.hosts.isHeld && other.hosts.isHeld).toBe(true);
    const taken: [string, number][] = [];
    taker.hosts.directory.orphans("room", (...orphan) => taken.push(orphan));
    await server.expire(dead.name().seat!);
    // A beat looks for them, which would be seconds away. It may be that the database still starts again.
    await vi.waitUntil(
      async () => {
        taker.hosts.exchange.subscribe("unit", "beat", () => "taken")();
        return taken.length > 0;
      },
      { timeout: 100_000, interval: 200 },
    );
    await proxy.met;
    expect(taken.map(([id]) => id).toSorted()).toEqual(["x", "y"]);
    expect(Math.min(...taken.map(([, fence]) => fence))).toBeGreaterThan((x as { fence: number }).fence);
    const [id, fence] = taken[0]!;
    expect(await persist(async () => other.hosts.directory.own("room", [id]))).toEqual([
      { owner: taker.name() },
    ]);
    // It is the one that the engine knows.
    taker.hosts.directory.disown("room", [{ id, fence }]);
    expect(
      await persist(async () => taker.hosts.directory.where("room", id).then((owner) => [owner])),
    ).toEqual([undefined]);
    expect([...taker.failures, ...other.failures]).toEqual([]);
  });

  test("an offer whose answer is missing has arrived, if another host has taken its units meanwhile", async () => {
    const taken = async (): Promise<void> => {
      await vi.waitUntil(async () => (await left()) === 0, { timeout: 100_000 });
    };
    const statement = engine === "etcd" ? ofEtcd("put", "offer/")("meanwhile") : ofPostgres(STATEMENTS.offer);
    const proxy = await KillingProxy.start(server.port, statement, "after", taken);
    onTestFinished(() => proxy.close());
    const [a, b] = [proxy.port, server.port].map((at) =>
      joinHosts(server.exchange({ service: "meanwhile", at, lease: 15_000 })),
    ) as [Host, Host];
    const left = async (): Promise<number> => {
      const owners = await Promise.all(["x", "y"].map(async (id) => b.hosts.directory.where("room", id)));
      return owners.filter((owner) => owner?.pid === a.name().pid).length;
    };
    b.hosts.exchange.subscribe("unit", "room", () => "taken");
    await a.hosts.directory.own("room", ["x", "y"]);
    await expect.poll(() => a.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    const units = ["x", "y"].map((id) => parcel(id, { kind: "unit", label: "room" }));
    const settled = await Promise.all(a.hosts.exchange.offer(units).map(async (one) => one.settled));
    expect(settled).toMatchObject([
      { how: "taken", by: { pid: b.name().pid } },
      { how: "taken", by: { pid: b.name().pid } },
    ]);
  });
});
