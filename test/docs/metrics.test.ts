import { describe, expect, test } from "vitest";
import { instruments } from "../../dist/metrics/instruments.js";
import { noTotals } from "../../dist/metrics/totals.js";
import { prometheus } from "../../dist/metrics/index.js";
import { Upgrader as StandIn } from "../../dist/testing/index.js";
import { collectDefaultMetrics, Registry } from "prom-client";
import { Page } from "../support/page.js";
import { Sandbox, UNTIL_SERVED } from "../support/sandbox.js";

const page = Page.open("metrics");
// Each upgrade waits for the end of probation.
const brief = (program: string): string => program.replace("{ pidFile", "{ probation: 300, pidFile");
const prom = brief(page.block("js", "prom-client"));
const openTelemetry = brief(page.block("js", "@opentelemetry"));
const scrape = page.block("sh", "curl");
const alerts = page.block("yaml");

/** Of a process of a service on several hosts. */
const hosts = { lease: "held", remaining: 9_000, peers: [], offered: 0, parked: 0 };

const UPGRADE = "handover upgrade --pid-file /run/app/app.pid";

describe.skipIf(Sandbox.missing)(`a host of its own${Sandbox.why}`, () => {
  test("continues the counters of docs/metrics.md after an upgrade, with prom-client", async () => {
    const sandbox = await startProgram(prom);
    const scrapes: string[] = [];
    const until = async (line: string): Promise<void> => {
      do scrapes.push((await sandbox.run(scrape)).stdout);
      while (!scrapes.at(-1)!.includes(line));
    };
    await until('handover_upgrades_total{outcome="confirmed"} 0');
    for (const n of [1, 2]) {
      expect(await sandbox.run(UPGRADE)).toMatchObject({ code: 0 });
      await until(`handover_upgrades_total{outcome="confirmed"} ${n}`);
    }
    expect(scrapes.at(-1)).toContain("handover_generation 2\n");
    const counters = scrapes.map((text) =>
      [...text.matchAll(/^\S+_(?:total|count|sum|bucket)\S* (\S+)$/gm)].map(([, value]) => Number(value)),
    );
    const falls = counters.flatMap((values, n) =>
      values.filter((value, m) => n > 0 && value < counters[n - 1]![m]!),
    );
    expect(falls).toEqual([]);
  });

  test("continues the counters of docs/metrics.md after an upgrade, with OpenTelemetry", async () => {
    const sandbox = await startProgram(openTelemetry);
    for (let n = 0; n < 2; n++) expect(await sandbox.run(UPGRADE)).toMatchObject({ code: 0 });
    expect(await sandbox.run("handover stop --pid-file /run/app/app.pid")).toMatchObject({ code: 0 });
    await sandbox.run(ENDED);
    const log = (await sandbox.run("cat /srv/log")).stdout;
    // Each process exports at its end: the last one has the total.
    expect([...log.matchAll(/outcome: 'confirmed'[^]*?value: (\d+)/g)].at(-1)?.[1]).toBe("2");
    expect(log).toContain("name: 'handover.connections.ended'");
  });
});

test("the names and labels in docs/metrics.md are those of the instruments", () => {
  const measured = { generation: 0, connections: 0, totals: noTotals(), hosts, on() {}, off() {} };
  const rows = [...page.text.matchAll(/^\| `(handover_\w+)` .*$/gm)].map(([row]) =>
    row
      .split("|")
      .slice(1, 6)
      .map((cell) => cell.trim().replaceAll("`", "")),
  );
  const expected = instruments(measured).map((one) => {
    const unit = one.type === "counter" ? "_total" : one.unit === undefined ? "" : `_${one.unit}`;
    const values = one.label === undefined ? "" : Object.keys(one.read()).join(", ");
    return [one.name.replaceAll(".", "_") + unit, one.name, one.type, one.label ?? "", values];
  });
  expect(rows).toEqual(expected);
});

test("the alerts of docs/metrics.md use series that exist", async () => {
  const registry = new Registry();
  const undo = prometheus(Object.assign(new StandIn(), { hosts }), registry);
  collectDefaultMetrics({ register: registry });
  const text = await registry.metrics();
  const used = [...alerts.matchAll(/\b(handover|process)_\w+(\{[^}]*\})?/g)].map(([series]) => series);
  expect(used.length).toBeGreaterThan(5);
  for (const series of used) {
    const [, name, label, values] = /^(\w+)(?:\{(\w+)=~?"([^"]*)"\})?$/.exec(series)!;
    for (const value of values?.split("|") ?? [undefined]) {
      const pattern = value === undefined ? `^${name} ` : `^${name}\\{.*${label}="${value}"`;
      expect(text).toMatch(new RegExp(pattern, "m"));
    }
  }
  undo();
});

/** Waits until all generations have ended: each has the lock by its stdin. */
const ENDED = "flock /srv/lock true";

async function startProgram(program: string): Promise<Sandbox> {
  const sandbox = await Sandbox.start();
  await sandbox.write("/srv/app/package.json", '{ "type": "module" }');
  await sandbox.write("/srv/app/server.js", program);
  await sandbox.run("exec 3<>/srv/lock; flock 3; node /srv/app/server.js <&3 3>&- >/srv/log 2>&1 &");
  await sandbox.run(UNTIL_SERVED);
  return sandbox;
}
