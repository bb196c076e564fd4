import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import type { Hosts } from "../../dist/exchange/hosts.js";
import { kubernetesLease } from "../../dist/kubernetes/index.js";
import { Actor } from "../support/actor.js";
import { DocumentedProgram } from "../support/documented.js";
import { KubernetesStandIn } from "../support/kubernetes-stand-in.js";
import { handover, jsonLines } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";

// The API server is a stand-in: see its file.
const CRON = "chat.cron";

interface Cluster {
  api: KubernetesStandIn;
  /** Starts a pod with a role, and waits until it accepts. */
  pod: (lease?: object, settings?: object) => Promise<Actor>;
}

async function cluster(): Promise<Cluster> {
  const api = await KubernetesStandIn.start();
  onTestFinished(async () => api.close());
  const pod = async (lease: object = {}, settings: object = {}): Promise<Actor> => {
    const options = { service: "chat", serviceAccount: api.serviceAccount, lease: 60_000, ...lease };
    return Actor.start("holds-global-role.js", { lease: options, ...settings }, api.environment);
  };
  return { api, pod };
}

/** A process of the service without the rest of it. */
async function joinPod(api: KubernetesStandIn, lease = 60_000): Promise<Hosts> {
  const exchange = kubernetesLease({ service: "chat", serviceAccount: api.serviceAccount, lease });
  const hosts = exchange.join({
    self: { generation: 0, pid: 1 },
    address: undefined,
    release: undefined,
    fences: new FencingTokens(),
    onFailure: () => {},
  });
  onTestFinished(async () => hosts.leave());
  Object.assign(process.env, api.environment);
  onTestFinished(() => {
    for (const name of Object.keys(api.environment)) delete process.env[name];
  });
  await hosts.check();
  hosts.enter(undefined);
  await expect.poll(() => hosts.isHeld).toBe(true);
  return hosts;
}

describe("a role over Leases of Kubernetes (a stand-in of its API server)", () => {
  test("one pod has the role, and another one has it as soon as the first releases it, with a higher fence", async () => {
    const { api, pod } = await cluster();
    // It is renewed, and looked at, every 200 s: the watch tells of the release before.
    const lease = { lease: 600_000 };
    const a = await pod(lease);
    const first = await a.says("acquired");
    const b = await pod(lease);
    expect(api.lease(CRON)!.spec).toMatchObject({ leaseDurationSeconds: 600, leaseTransitions: 0 });
    expect(b.said("acquired")).toEqual([]);
    a.kill("SIGTERM");
    const second = await b.says("acquired");
    expect(second["fence"]).toBeGreaterThan(first["fence"] as number);
    const { lines } = a.service;
    expect(lines.findIndex(({ event }) => event === "released")).toBeGreaterThan(-1);
    expect(api.lease(CRON)!.spec).toMatchObject({ leaseTransitions: 1 });
    expect(Number(api.lease(CRON)!.metadata.annotations!["handover/fence"])).toBe(second["fence"]);
    await a.leaves("stopped");
  });

  test("an upgrade in place keeps the Lease and its holder, and raises the fence", async () => {
    const { api, pod } = await cluster();
    const a = await pod();
    const first = await a.says("acquired");
    const { holderIdentity, acquireTime } = api.lease(CRON)!.spec;
    const b = await a.upgrade();
    const second = await b.says("acquired");
    await a.leaves();
    expect(second["fence"]).toBeGreaterThan(first["fence"] as number);
    expect(api.lease(CRON)!.spec).toMatchObject({ holderIdentity, acquireTime, leaseTransitions: 0 });
  });

  test("a pod that dies loses the role to another one when its Lease was not renewed for its duration", async () => {
    const { pod } = await cluster();
    const lease = { lease: 6_000 };
    const a = await pod(lease);
    const first = await a.says("acquired");
    const b = await pod(lease);
    a.kill();
    const second = await b.says("acquired");
    expect(second["fence"]).toBeGreaterThan(first["fence"] as number);
  });

  test("a pod that is stopped for longer than its lease releases the role first thing, and none of its writes gets through", async () => {
    const { api, pod } = await cluster();
    const lease = { lease: 6_000 };
    const a = await pod(lease);
    await a.says("acquired");
    const b = await pod(lease);
    a.kill("SIGSTOP");
    const second = await b.says("acquired");
    const taken = api.lease(CRON)!.spec.holderIdentity;
    a.kill("SIGCONT");
    await a.says("released");
    await a.says("failed", { code: "ERR_LEASE" });
    await expect
      .poll(() => Number(api.lease(CRON)!.metadata.annotations!["handover/fence"]))
      .toBe(second["fence"]);
    expect(api.lease(CRON)!.spec).toMatchObject({ holderIdentity: taken, leaseTransitions: 1 });
  });

  test("a pod that the API server does not answer releases the role before its lease is over", async () => {
    const { api, pod } = await cluster();
    const a = await pod({ lease: 6_000 });
    await a.says("acquired");
    const { holderIdentity } = api.lease(CRON)!.spec;
    api.stall();
    await a.says("failed", { code: "ERR_LEASE" });
    await a.says("released");
    expect(api.lease(CRON)!.spec).toMatchObject({ holderIdentity });
  });

  test("the times of a Lease are not compared with a clock: one that is renewed is held, whatever they say", async () => {
    const { api } = await cluster();
    const spec = { holderIdentity: "other_x", leaseDurationSeconds: 3, leaseTransitions: 3 };
    const renew = (renewTime: string): void =>
      api.put({
        metadata: {
          name: CRON,
          labels: { "handover/service": "chat" },
          annotations: { "handover/fence": "7" },
        },
        spec: { ...spec, renewTime },
      });
    renew("2000-01-01T00:00:00.000000Z");
    const hosts = await joinPod(api, 6_000);
    const before = api.lists;
    // Two lists come later than the Lease would be over.
    while (api.lists < before + 2) {
      renew("2000-01-01T00:00:00.000000Z");
      expect(await hosts.roles.acquire("cron")).toBeUndefined();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(api.writes).toEqual([]);
    renew("2100-01-01T00:00:00.000000Z");
    await expect.poll(async () => hosts.roles.acquire("cron")).toBeGreaterThan(2 ** 24);
    expect(api.lease(CRON)!.spec).toMatchObject({ leaseTransitions: 4 });
  });

  test("of twenty processes that ask for a role at the same time one has it", async () => {
    const { api } = await cluster();
    // One by one: a hundred handshakes at once, of both ends in one process, may take longer than an answer has.
    const all: Hosts[] = [];
    while (all.length < 20) all.push(await joinPod(api));
    const fences = await Promise.all(all.map(async (hosts) => hosts.roles.acquire("cron")));
    expect(fences.filter((fence) => fence !== undefined)).toHaveLength(1);
    expect(api.writes.filter((write) => write.endsWith("201"))).toHaveLength(1);
  });

  test("a Lease that is deleted ends the seat of its holder, and no other process has the role for as long as it lasts", async () => {
    const { api, pod } = await cluster();
    const a = await pod({ lease: 6_000 });
    const first = await a.says("acquired");
    const other = await joinPod(api, 6_000);
    api.remove(CRON);
    expect(await other.roles.acquire("cron")).toBeUndefined();
    await a.says("released");
    await a.says("failed", { code: "ERR_LEASE" });
    const second = await a.says("acquired", {}, a.service.lines.indexOf(first) + 1);
    expect(second["fence"]).toBeGreaterThan(first["fence"] as number);
  });

  test("a token that was replaced is read again", async () => {
    const { api, pod } = await cluster();
    const a = await pod({ lease: 6_000 });
    await a.says("acquired");
    api.renewToken();
    const before = api.writes.length;
    await expect.poll(() => api.writes.length).toBeGreaterThan(before + 3);
    expect(a.said("failed")).toEqual([]);
  });

  test("a Lease of the same name that another program has made is left alone", async () => {
    const { api } = await cluster();
    api.put({ metadata: { name: CRON }, spec: { holderIdentity: "", leaseDurationSeconds: 1 } });
    const hosts = await joinPod(api);
    await expect(hosts.roles.acquire("cron")).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: expect.stringContaining("is another program's") as string,
    });
  });

  test("names that are no names of Kubernetes are hashed, and unlike each other", async () => {
    const { api } = await cluster();
    const hosts = await joinPod(api);
    for (const name of ["Größe", "a.b", "x".repeat(200), "cron"])
      expect(await hosts.roles.acquire(name)).toBeGreaterThan(0);
    expect(
      api.writes.map((write) => write.split(" ")[1]).filter((name, n, all) => all.indexOf(name) === n),
    ).toHaveLength(4);
  });
});

describe("what kubernetesLease() refuses", () => {
  test.each(["units", "slot"])("%s with the scope global need an engine that keeps state", async (what) => {
    const { pod } = await cluster();
    const a = await pod();
    await expect(a.tell("open", what)).rejects.toMatchObject({
      code: "ERR_OPTION",
      message: expect.stringMatching(
        /the engine kubernetes has roles only; .* need one that keeps state/,
      ) as string,
    });
  });

  test("ready() names the verbs that the service account lacks", async () => {
    const { api } = await cluster();
    api.forbidden.add("create").add("update");
    const settings = {
      directory: temporaryDirectory(),
      lease: { service: "chat", serviceAccount: api.serviceAccount },
    };
    const service = Service.start("holds-global-role.js", { settings, env: api.environment });
    await service.untilNoise(/ERR_EXCHANGE/);
    expect(service.noise).toMatch(/the service account may not create, update leases/);
  });

  test("a process outside a pod is told so", async () => {
    const { api } = await cluster();
    const settings = {
      directory: temporaryDirectory(),
      lease: { service: "chat", serviceAccount: api.serviceAccount },
    };
    const service = Service.start("holds-global-role.js", { settings });
    await service.untilNoise(/ERR_EXCHANGE/);
    expect(service.noise).toMatch(/KUBERNETES_SERVICE_HOST is not set: this process is not in a pod/);
  });

  test("a process on a machine without the files of a service account is told so", async () => {
    const serviceAccount = join(temporaryDirectory(), "none");
    const settings = { directory: temporaryDirectory(), lease: { service: "chat", serviceAccount } };
    const service = Service.start("holds-global-role.js", { settings });
    await service.untilNoise(/ERR_EXCHANGE/);
    expect(service.noise).toContain(
      "HandoverError: Kubernetes cannot be asked: its service account cannot be read: ENOENT",
    );
    expect(service.noise).toContain("is this process in a pod?");
  });

  test.each([
    ["no service", {}],
    ["a lease of half seconds", { service: "a", lease: 1_500.5 }],
    ["a lease that is not of whole seconds", { service: "a", lease: 2_500 }],
    ["an unknown option", { service: "a", Lease: 5_000 }],
  ])("kubernetesLease() refuses %s", (_, options) => {
    expect(() => kubernetesLease(options as never)).toThrow(
      expect.objectContaining({ code: "ERR_OPTION" }) as Error,
    );
  });
});

test("handover doctor looks at the API server: its version, the rights, and its answers", async () => {
  const { api, pod } = await cluster();
  const a = await pod();
  const examine = async (): Promise<unknown> =>
    (jsonLines(await handover("doctor", a.pid, "--json"))[0]!["findings"] as { check: string }[]).filter(
      ({ check }) => ["engine", "latency"].includes(check),
    );
  expect(await examine()).toMatchObject([
    { check: "engine", severity: "ok", what: "Kubernetes v1.30.1 answers" },
    { check: "latency", severity: "ok" },
  ]);
  api.forbidden.add("update");
  expect(await examine()).toMatchObject([
    { check: "engine", severity: "error", what: "the service account may not update leases" },
    { check: "latency" },
  ]);
});

test("the program of docs/kubernetes.md holds its role in a pod", async () => {
  const { api } = await cluster();
  // It reads the directory that a pod has.
  const program = readFileSync("docs/kubernetes.md", "utf8")
    .split("```js\n")[2]!
    .split("```")[0]!
    .replace('service: "chat"', `service: "chat", serviceAccount: ${JSON.stringify(api.serviceAccount)}`);
  const running = await DocumentedProgram.start(program, undefined, api.environment);
  await expect
    .poll(async () => (await fetch(`http://127.0.0.1:${running.port}/`)).text())
    .toMatch(/^here, with fence \d+$/);
});
