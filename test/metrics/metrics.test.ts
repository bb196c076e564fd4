import { readFileSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { noTotals } from "../../dist/metrics/totals.js";
import { Upgrader as StandIn } from "../../dist/testing/index.js";
import { prometheus } from "../../dist/metrics/index.js";
import { Registry } from "prom-client";
import { Client } from "../support/client.js";
import { Service, temporaryDirectory } from "../support/service.js";
import { Supervised } from "../support/supervised.js";
import { handover, startHandover } from "../support/program.js";

describe("the metrics of a service", () => {
  test("the metrics count on over the generations, in prom-client and in OpenTelemetry", async () => {
    const { service, ask, upgrade, clients } = await serve();
    expect(await ask("/")).toContain('handover_upgrades_total{outcome="confirmed"} 0\n');
    for (const generation of [1, 2, 3]) await upgrade(generation);
    const text = await ask("/");
    expect(numbers(text)).toMatchObject({
      'handover_upgrades_total{outcome="confirmed"}': 3,
      'handover_upgrades_total{outcome="rolled_back"}': 0,
      'handover_units_ended_total{how="moved"}': 9,
      'handover_connections_ended_total{how="moved"}': 6,
      'handover_connections_ended_total{how="destroyed"}': 0,
      'handover_connections_ended_total{how="unsettled"}': 0,
      'handover_upgrade_phase_duration_seconds_count{phase="ready"}': 3,
      'handover_upgrade_phase_duration_seconds_bucket{le="+Inf",phase="spawn"}': 3,
      handover_generation: 3,
      handover_connections: clients.length + 1,
    });
    expect(numbers(text)["handover_descriptors"]).toBeGreaterThan(10);
    const exported = JSON.parse(await ask("/otel")) as { name: string; attributes: object; value: unknown }[];
    expect(exported).toContainEqual({
      name: "handover.upgrades",
      attributes: { outcome: "confirmed" },
      value: 3,
    });
    // Each process records what it has come through: the exporter adds them up.
    expect(exported).toContainEqual({
      name: "handover.upgrade.phase.duration",
      attributes: { phase: "ready" },
      value: expect.objectContaining({ count: 1 }) as object,
    });
    expect(
      service.lines.filter(({ event }) => event === "recorded").map(({ generation }) => generation),
    ).toEqual([1, 2, 3]);
  });

  test("each worker of a supervisor has metrics of its own, by its index", async () => {
    const supervised = await Supervised.start("serves-metrics.js");
    const texts = new Map<string, string>();
    while (texts.size < 2) {
      const text = await supervised.service.ask();
      texts.set(/worker="(\d)"/.exec(text)![1]!, text);
    }
    for (const [index, text] of texts) {
      const labels = `worker="${index}"`;
      expect(numbers(text)).toMatchObject({
        [`handover_generation{${labels}}`]: 0,
        [`handover_connections{${labels}}`]: expect.any(Number) as number,
        [`handover_upgrades_total{${labels},outcome="confirmed"}`]: 0,
      });
    }
    expect([...texts.keys()].toSorted((a, b) => Number(a) - Number(b))).toEqual(["0", "1"]);
    const exported = JSON.parse(await supervised.service.ask("/otel")) as {
      attributes: { worker: string };
    }[];
    expect(new Set(exported.map(({ attributes }) => attributes.worker)).size).toBe(1);
  });

  test("the metrics never fall while they are read all the time", async () => {
    const { ask, upgrade } = await serve();
    const read: Record<string, number>[] = [];
    const over = new AbortController();
    const reading = (async () => {
      while (!over.signal.aborted) read.push(numbers(await ask("/")));
    })();
    for (const generation of [1, 2, 3]) await upgrade(generation);
    over.abort();
    await reading;
    const counters = Object.keys(read[0]!).filter((name) => /_total|_count|_sum|_bucket/.test(name));
    const falls = read.flatMap((now, n) =>
      counters.filter((name) => n > 0 && now[name]! < read[n - 1]![name]!).map((name) => `${n}: ${name}`),
    );
    expect(falls).toEqual([]);
    expect(read.at(-1)!['handover_upgrades_total{outcome="confirmed"}']).toBeGreaterThanOrEqual(2);
  });

  test("the metrics count a failed upgrade in the process that keeps serving", async () => {
    const { service, ask, upgrade, fate } = await serve();
    await upgrade(1);
    writeFileSync(fate, "");
    expect((await handover("upgrade", "--pid-file", service.pidFile)).code).toBe(1);
    rmSync(fate);
    const { record } = await service.until("recorded", { generation: 1, outcome: "failed" });
    expect(record).toMatchObject({ from: 1, to: 2, code: "ERR_CHILD_EXITED" });
    await upgrade(2);
    expect(numbers(await ask("/"))).toMatchObject({
      'handover_upgrades_total{outcome="confirmed"}': 2,
      'handover_upgrades_total{outcome="failed"}': 1,
      'handover_upgrade_phase_duration_seconds_count{phase="ready"}': 2,
    });
  });

  test("the metrics can be removed, and are all there in the stand-in", async () => {
    const upg = new StandIn();
    const registry = new Registry();
    const undo = prometheus(upg, registry);
    expect(numbers(await registry.metrics())).toMatchObject({
      handover_generation: 0,
      handover_connections: 0,
    });
    expect(upg.totals).toEqual(noTotals());
    registry.resetMetrics();
    undo();
    expect(await registry.metrics()).toBe("\n");
  });
});

describe("handover status", () => {
  test("handover status shows the last ten upgrades of all generations", async () => {
    const { service, upgrade, fate } = await serve();
    for (let generation = 1; generation <= 4; generation++) await upgrade(generation);
    writeFileSync(fate, "");
    for (let n = 0; n < 4; n++) await handover("upgrade", "--pid-file", service.pidFile);
    rmSync(fate);
    for (let generation = 5; generation <= 7; generation++) await upgrade(generation);
    const { stdout } = await handover("status", "--pid-file", service.pidFile, "--json");
    const { upgrades } = JSON.parse(stdout) as {
      upgrades: { from: number; outcome: string; timings?: object }[];
    };
    expect(upgrades.map(({ from, outcome }) => `${from} ${outcome}`)).toEqual([
      "1 confirmed",
      "2 confirmed",
      "3 confirmed",
      "4 failed",
      "4 failed",
      "4 failed",
      "4 failed",
      "4 confirmed",
      "5 confirmed",
      "6 confirmed",
    ]);
    const text = await handover("status", "--pid-file", service.pidFile);
    expect(text.stdout).toMatch(/^upgrades +.*generation 1 → 2 +confirmed +.* m?s to the commit$/m);
    expect(text.stdout).toMatch(
      /generation 4 → 5 +failed +ERR_CHILD_EXITED: the successor .* exited with code 7/,
    );
  });

  test("handover status --watch prints the status again and again, and follows an upgrade", async () => {
    const { service, upgrade } = await serve();
    const watching = startHandover(["status", "--pid-file", service.pidFile, "--watch", "0.1", "--json"]);
    await watching.untilPrinted(/"generation":0/);
    await upgrade(1);
    await watching.untilPrinted(/"generation":1.*"outcome":"confirmed"/);
    await watching.untilPrinted(/(?:.*\n){3}/);
    watching.kill("SIGINT");
    expect(await watching.ended).toMatchObject({ code: 0, stderr: "" });
  });

  test("handover status --watch exits when its reader does", async () => {
    const { service } = await serve();
    const watching = startHandover(["status", "--pid-file", service.pidFile, "--watch", "0.1"]);
    await watching.untilPrinted(/generation +0/);
    watching.leave();
    expect(await watching.ended).toMatchObject({ code: 0, stderr: "" });
  });

  test("handover status --watch exits at Ctrl-C while the process does not answer", async () => {
    const { service } = await serve();
    const watching = startHandover(["status", "--pid-file", service.pidFile, "--watch", "0.1"]);
    await watching.untilPrinted(/generation +0/);
    process.kill(service.pid, "SIGSTOP");
    // Between two questions it ends, too: let there be one that waits.
    while (socketsAt(`${service.pidFile}.sock`) < 2) await turn();
    watching.kill("SIGINT");
    expect(await watching.ended).toMatchObject({ code: 0, stderr: "" });
  });

  test("handover status --watch exits when the service does", async () => {
    const { service } = await serve();
    const watching = startHandover(["status", "--pid-file", service.pidFile, "--watch", "0.1"]);
    await watching.untilPrinted(/generation +0/);
    expect((await handover("stop", "--pid-file", service.pidFile)).code).toBe(0);
    expect(await watching.ended).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^handover: /) as string,
    });
  });
});

interface Running {
  service: Service & { pidFile: string };
  /** While it exists successors fail. */
  fate: string;
  clients: Client[];
  ask: (path: string) => Promise<string>;
  /** To this generation. */
  upgrade: (generation: number) => Promise<void>;
}

/** A service with three units and two connections that do not speak. */
async function serve(): Promise<Running> {
  const directory = temporaryDirectory();
  const [pidFile, fate] = [join(directory, "app.pid"), join(directory, "fate")];
  const service = Service.start("serves-metrics.js", { settings: { pidFile, fate, probation: 200 } });
  const { address } = await service.until("listening");
  const { port } = address as AddressInfo;
  await service.until("accepting");
  return {
    service: Object.assign(service, { pidFile }),
    fate,
    clients: await Promise.all([Client.open(port), Client.open(port)]),
    ask: async (path) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: "close" } });
      return response.text();
    },
    upgrade: async (generation) => {
      expect((await handover("upgrade", "--pid-file", pidFile)).code).toBe(0);
      await service.until("recorded", { generation });
      await service.until("exit", { generation: generation - 1 });
    },
  };
}

/** Who listens there, and who has come. */
function socketsAt(path: string): number {
  return readFileSync("/proc/net/unix", "utf8")
    .split("\n")
    .filter((line) => line.endsWith(` ${path}`)).length;
}

function numbers(text: string): Record<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").pop())]),
  );
}
