import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import type { Settlement } from "../../dist/exchange/parcel.js";
import { migrate, postgres } from "../../dist/postgres/index.js";
import { STATEMENTS } from "../../dist/postgres/statements.js";
import { parcel } from "../support/exchange-suite.js";
import { joinHosts, type Host } from "../support/hosts.js";
import { KillingProxy, type Moment } from "../support/killing-proxy.js";
import { Postgres } from "../support/postgres.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start(["fsync = off", "max_connections = 200"]);
  await migrate({ url: server.url });
});
afterAll(async () => server.remove());

type Phase = keyof typeof STATEMENTS;

const PHASES: readonly Phase[] = [
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
];
const cases = PHASES.flatMap((phase) =>
  (["before", "after"] as const).map((moment): [Moment, Phase] => [moment, phase]),
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

test.each(cases)(
  "a database that is killed %s the statement %s is done leaves each unit and role with one process",
  async (moment, phase) => {
    const proxy = await KillingProxy.start(server.port, STATEMENTS[phase].slice(0, 100), moment, async () => {
      await server.kill();
      await server.run();
    });
    onTestFinished(() => proxy.close());
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    const service = `${moment} ${phase}`;
    const join = async (): Promise<Host> => {
      const host = joinHosts(postgres({ service, url, lease: 30_000 }));
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

test("an offer whose answer is missing has arrived, if another host has taken its units meanwhile", async () => {
  const taken = async (): Promise<void> => {
    const left =
      "select from handover.unit u join handover.seat z using (seat) where z.service = 'meanwhile' and z.about ->> 'pid' = $1";
    await vi.waitUntil(async () => (await server.query(left, [String(a.name().pid)])).length === 0);
  };
  const proxy = await KillingProxy.start(server.port, STATEMENTS.offer.slice(0, 100), "after", taken);
  onTestFinished(() => proxy.close());
  const [a, b] = [proxy.port, server.port].map((port) => {
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
    return joinHosts(postgres({ service: "meanwhile", url, lease: 15_000 }));
  }) as [Host, Host];
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
