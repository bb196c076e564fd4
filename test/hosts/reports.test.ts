import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Actor } from "../support/actor.js";
import { joinHosts } from "../support/hosts.js";
import { parcel } from "../support/exchange-suite.js";
import { Postgres } from "../support/postgres.js";
import { handover, jsonLines } from "../support/program.js";
import { Service } from "../support/service.js";
import { StallingProxy } from "../support/stalling-proxy.js";
import { Supervised } from "../support/supervised.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;
const database = (options: object = {}): object => ({
  service: `reports ${services++}`,
  url: server.url,
  lease: 30_000,
  migrate: true,
  ...options,
});

interface Finding {
  check: string;
  severity: string;
  what: string;
}

const CHECKS = ["engine", "schema", "engine clock", "latency"];

/** What the doctor says of the engine, by check. */
async function examine(pid: number): Promise<{ code: number | null; findings: Finding[] }> {
  const run = await handover("doctor", pid, "--json");
  const findings = jsonLines(run)[0]!["findings"] as Finding[];
  return { code: run.code, findings: findings.filter(({ check }) => CHECKS.includes(check)) };
}

const finding = (check: string, severity: string, what: RegExp): unknown =>
  expect.objectContaining({ check, severity, what: expect.stringMatching(what) as string });

describe("handover status", () => {
  test("what a process has left in the engine counts as parked", async () => {
    const { hosts } = joinHosts(server.exchange({ service: "parks" }));
    await hosts.roles.acquire("x");
    await expect.poll(() => hosts.isHeld).toBe(true);
    const [offered] = hosts.exchange.offer([parcel("x", { kind: "slot", label: "counter", ttl: 60_000 })]);
    expect(hosts.status()).toMatchObject({ offered: 1, parked: 0 });
    offered!.park!();
    expect(await offered!.settled).toEqual({ how: "parked" });
    expect(hosts.status()).toMatchObject({ offered: 0, parked: 1 });
  });

  test("of thousands of other hosts handover status names the first, and counts the others", async () => {
    const { service } = database() as { service: string };
    const actor = await Actor.start("on-several-hosts.js", {
      database: { ...database(), service, lease: 6_000 },
    });
    await actor.says("acquired");
    const others = `insert into handover.seat (seat, service, holder, about, topics, draining, fence, lease, started, seen)
      select gen_random_uuid(), service, 'x', about || jsonb_build_object('address', repeat('x', 100) || n), topics, false, 0, 600000, now(), now()
      from handover.seat, generate_series(1, 3000) n where service = $1`;
    await server.query(others, [service]);
    const hosts = async (): Promise<unknown> =>
      jsonLines(await handover("status", actor.pid, "--json"))[0]!["hosts"];
    await expect.poll(hosts).toMatchObject({ morePeers: 2_900, peers: { length: 100 } });
    const { stdout } = await handover("status", actor.pid);
    expect(stdout).toMatch(/^ +and 2,900 more peers$/m);
  });

  test("handover status of a supervisor shows the seat and the lease of each worker", async () => {
    const supervised = await Supervised.start("on-several-hosts.js", { settings: { database: database() } });
    const { workers } = await supervised.eventually(({ workers: all = [] }) =>
      all.every(({ hosts }) => hosts?.lease === "held" && hosts.peers === 1),
    );
    expect(new Set(workers!.map(({ hosts }) => hosts!.seat)).size).toBe(2);
    const { stdout } = await handover("status", "--control", supervised.controlSocket);
    for (const { index, hosts } of workers!)
      expect(stdout).toMatch(
        new RegExp(
          `worker ${index}: postgres "reports \\d+", seat ${hosts!.seat}, lease held, .* 1 peer$`,
          "m",
        ),
      );
  });
});

describe("the metrics of a service on several hosts", () => {
  test("the lease, the peers and the parcels are gauges, in prom-client and in OpenTelemetry", async () => {
    const options = { database: database() };
    const [one, two] = [0, 1].map(() => Service.start("serves-metrics.js", { settings: options }));
    await Promise.all([one!, two!].map(async (service) => service.until("accepting")));
    await expect.poll(async () => one!.ask()).toMatch(/^handover_peers 1$/m);
    const text = await one!.ask();
    expect(text).toMatch(/^handover_lease_remaining_seconds \d+(?:\.\d+)?$/m);
    expect(text).toMatch(/^handover_parcels{state="offered"} 0\nhandover_parcels{state="parked"} 0$/m);
    const exported = JSON.parse(await one!.ask("/otel")) as { name: string; value: number }[];
    expect(exported).toContainEqual({ name: "handover.peers", attributes: {}, value: 1 });
    expect(exported).toContainEqual(
      expect.objectContaining({ name: "handover.lease.remaining", value: expect.any(Number) as number }),
    );
  });

  test("a process without the option exchange has none of them", async () => {
    const service = Service.start("serves-metrics.js");
    await service.until("accepting");
    expect(await service.ask()).not.toMatch(/handover_(?:lease|peers|parcels)/);
  });
});

describe("handover doctor", () => {
  test("handover doctor finds the engine of a process well: reachable, its schema, its clock and its answers", async () => {
    const actor = await Actor.start("on-several-hosts.js", { database: database() });
    const { findings } = await examine(actor.pid);
    expect(findings).toEqual([
      finding("engine", "ok", /^PostgreSQL \d+\.\d+.* answers$/),
      finding("schema", "ok", /^version 2 of the schema$/),
      finding("engine clock", "ok", /^its clock agrees with this host's$/),
      finding("latency", "ok", /^an answer took up to (?!0\.0)[\d.]+ m?s, with a lease of 30 s$/),
    ]);
  });

  test("handover doctor asks a worker of a supervisor about its engine", async () => {
    const supervised = await Supervised.start("on-several-hosts.js", { settings: { database: database() } });
    await supervised.eventually(({ workers = [] }) => workers.some(({ hosts }) => hosts !== undefined));
    const { findings } = await examine(supervised.pid);
    expect(findings).toContainEqual(finding("engine", "ok", /^PostgreSQL .* answers$/));
  });

  test("handover doctor says nothing of an engine where there is none", async () => {
    const actor = await Actor.start("obeys-units.js");
    expect((await examine(actor.pid)).findings).toEqual([]);
  });

  test("handover doctor finds an engine that cannot be reached, and the time that is left of the lease", async () => {
    const proxy = await StallingProxy.start(server.port);
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    const actor = await Actor.start("on-several-hosts.js", { database: database({ url, lease: 120_000 }) });
    await actor.says("acquired");
    proxy.close();
    const { code, findings } = await examine(actor.pid);
    expect(findings).toEqual([
      {
        check: "engine",
        severity: "error",
        what: expect.stringMatching(/^postgres cannot be used: .*ECONNREFUSED/) as string,
        why: expect.stringMatching(/^the lease ends in .* s, and with it all that is global/) as string,
        fix: expect.any(String) as string,
      },
    ]);
    expect(code).toBe(1);
  });

  test("handover doctor finds an engine that does not answer", async () => {
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    const actor = await Actor.start("on-several-hosts.js", { database: database({ url, lease: 6_000 }) });
    await actor.says("acquired");
    proxy.stall();
    const { code, findings } = await examine(actor.pid);
    expect(findings).toEqual([finding("engine", "error", /^postgres cannot be used: /)]);
    expect(code).toBe(1);
  });

  test("handover doctor finds a database whose schema is not what the next process needs", async () => {
    const actor = await Actor.start("on-several-hosts.js", { database: database() });
    await server.query("update handover.version set version = 1");
    onTestFinished(async () => void (await server.query("update handover.version set version = 2")));
    const { code, findings } = await examine(actor.pid);
    expect(findings[0]).toEqual(finding("schema", "error", /^the database has version 1 of the schema$/));
    expect(code).toBe(1);
  });

  test("handover doctor finds answers that take too large a share of the lease", async () => {
    const proxy = await StallingProxy.start(server.port);
    onTestFinished(() => proxy.close());
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    const actor = await Actor.start("on-several-hosts.js", { database: database({ url, lease: 12_000 }) });
    await actor.says("acquired");
    // Two of these answers take more than half of a third of the lease.
    proxy.slow(600);
    const { code, findings } = await examine(actor.pid);
    expect(findings[0]).toEqual(
      finding("latency", "error", /^an answer took up to \d.* s, with a lease of 12 s$/),
    );
    expect(code).toBe(1);
    proxy.slow(0);
  });
});
