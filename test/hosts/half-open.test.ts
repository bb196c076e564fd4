import { Pool } from "pg";
import { expect, onTestFinished, test } from "vitest";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import type { HostExchange, Hosts } from "../../dist/exchange/hosts.js";
import { kubernetesLease } from "../../dist/kubernetes/index.js";
import { postgres } from "../../dist/postgres/index.js";
import { startEngine, type EngineName } from "../support/engines.js";
import { KubernetesStandIn } from "../support/kubernetes-stand-in.js";
import { StallingProxy } from "../support/stalling-proxy.js";

/** A host that reaches its engine by a proxy. */
interface Case {
  readonly proxy: StallingProxy;
  readonly hosts: Hosts;
  readonly failures: readonly Error[];
  /** Differs after each renewal that has arrived. */
  readonly lastBeat: () => Promise<string | number>;
}

const LEASE = 12_000;
const service = "half-open";

async function before(port: number): Promise<StallingProxy> {
  const proxy = await StallingProxy.start(port);
  onTestFinished(() => proxy.close());
  return proxy;
}

async function join(exchange: HostExchange): Promise<Pick<Case, "hosts" | "failures">> {
  const failures: Error[] = [];
  const hosts = exchange.join({
    self: { generation: 0, pid: 1 },
    address: undefined,
    release: undefined,
    fences: new FencingTokens(),
    onFailure: (error) => failures.push(error),
  });
  onTestFinished(async () => hosts.leave());
  await hosts.check();
  hosts.enter(undefined);
  return { hosts, failures };
}

async function overEngine(name: EngineName, hasPool = false): Promise<Case> {
  const server = await startEngine(name);
  onTestFinished(async () => server.remove());
  const proxy = await before(server.port);
  const joined = await join(
    hasPool
      ? postgres({ service, pool: await usedPool(proxy.port), lease: LEASE, migrate: true })
      : server.exchange({ service, at: proxy.port, lease: LEASE }),
  );
  return { proxy, ...joined, lastBeat: async () => server.lastBeat(service, joined.hosts.status().seat) };
}

/** The program has used connections that handover has not. */
async function usedPool(port: number): Promise<Pool> {
  const pool = new Pool({ connectionString: `postgres://postgres@127.0.0.1:${port}/postgres` });
  pool.on("error", () => {});
  onTestFinished(async () => pool.end());
  const clients = await Promise.all([pool.connect(), pool.connect(), pool.connect()]);
  for (const client of clients) client.release();
  return pool;
}

async function overKubernetes(): Promise<Case> {
  const api = await KubernetesStandIn.start();
  onTestFinished(async () => api.close());
  const { KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT } = api.environment;
  const proxy = await before(Number(KUBERNETES_SERVICE_PORT));
  Object.assign(process.env, { KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT: String(proxy.port) });
  onTestFinished(() => {
    for (const variable of Object.keys(api.environment)) delete process.env[variable];
  });
  const { serviceAccount } = api;
  const joined = await join(kubernetesLease({ service, serviceAccount, lease: LEASE }));
  return { proxy, ...joined, lastBeat: async () => api.lists };
}

/** Nothing is answered from now on on the connections that it has, and none of them ends. Resolves when a beat arrives. */
async function loseConnections({ proxy, hosts, failures, lastBeat }: Case): Promise<unknown> {
  await expect.poll(() => hosts.isHeld).toBe(true);
  // Several connections: one after the other must not be asked in vain.
  await Promise.all(["a", "b", "c"].map(async (role) => hosts.roles.acquire(role)));
  const { seat } = hosts.status();
  proxy.stallPresent();
  const last = await lastBeat();
  await expect.poll(async () => failures.length > 0 || (await lastBeat()) !== last).toBe(true);
  // A beat that was on its way may have arrived late, and the first question may still be asked in vain.
  let fence: number | undefined;
  await expect
    .poll(async () => (fence = await hosts.roles.acquire("d").catch(() => undefined)))
    .toBeGreaterThan(0);
  return { failures, isSame: hosts.status().seat === seat, fence };
}

// All at once: each waits for a beat of its host.
test("a host whose connections are half open asks on new ones before its lease ends, over PostgreSQL, with a pool of the program, over etcd and over Kubernetes", async () => {
  const cases = await Promise.all([
    overEngine("postgres"),
    overEngine("postgres", true),
    overEngine("etcd"),
    overKubernetes(),
  ]);
  const held = { failures: [], isSame: true, fence: expect.any(Number) as number };
  expect(await Promise.all(cases.map(loseConnections))).toEqual([held, held, held, held]);
});
