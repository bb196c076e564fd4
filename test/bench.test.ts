import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { createHistogram } from "node:perf_hooks";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { endBenchmark } from "./support/ended-benchmark.js";

const run = promisify(execFile);

interface Summary {
  median: number;
  min: number;
  max: number;
  ratio: number;
}

test("bench:start compares starts and upgrades with a program that does not import handover", async () => {
  expect(readFileSync("bench/bare-server.js", "utf8")).not.toMatch(/from "(handover|\.)/);
  const { stdout } = await run(process.execPath, ["bench/start.js", "--runs", "1", "--json"]);
  const result = JSON.parse(stdout) as Record<"empty" | "heavy" | "command", Record<string, Summary>>;
  expect(Object.keys(result.empty)).toEqual(["bare", "handover", "upgrade", "staged"]);
  expect(Object.keys(result.heavy)).toEqual(Object.keys(result.empty));
  expect(Object.keys(result.command)).toEqual(["node", "status"]);
  for (const group of [result.empty, result.heavy, result.command]) {
    const [first, ...others] = Object.values(group);
    expect(first!.ratio).toBe(1);
    for (const one of others) expect(one.ratio).toBe(one.median / first!.median);
  }
});

test("bench:connections prints a dash for what it has not measured, as without requests", async () => {
  const args = ["bench/connections.js", "--connections", "20", "--upgrades", "1", "--silent"];
  const { stdout } = await run(process.execPath, args);
  expect(stdout).not.toContain("NaN");
  const cells = /^median +.*$/m.exec(stdout)![0].split(/ {2,}/);
  expect(cells.slice(3, 5)).toEqual(["–", "–"]);
  expect(cells.at(-1)).toBe("0");
});

test("bench:connections has null for what it has not measured in its JSON", async () => {
  const args = ["bench/connections.js", "--connections", "20", "--upgrades", "1", "--silent", "--json"];
  const { median, moves } = JSON.parse((await run(process.execPath, args)).stdout) as {
    median: { ms: number; steady: object; gap: object };
    moves: unknown[];
  };
  expect(moves).toEqual([median]);
  expect(median.ms).toBeGreaterThan(0);
  const nothing = { requests: 0, p50: null, p99: null, max: null };
  expect([median.steady, median.gap]).toEqual([nothing, nothing]);
});

test.each([0, 1, 2, 50])("a benchmark counts %d long blocks of 50", async (long) => {
  const { countAbove } = (await import(`${process.cwd()}/bench/statistics.js`)) as {
    countAbove: (histogram: unknown, value: number) => number;
  };
  const blocks = createHistogram();
  for (let n = 0; n < 50; n++) blocks.record(n < long ? 11_000_000 + n : 1_000_000 + n);
  expect(countAbove(blocks, 10_000_000)).toBe(long);
});

test("bench:steady compares with a server that does not import handover, and checks its goals", async () => {
  const args = ["bench/steady.js", "--rounds", "3", "--connections", "100", "--json", "--check"];
  // A few rounds decide nothing: the exit code has to agree with the figures, whatever they are.
  const outcome = await run(process.execPath, args).catch((error: { code: number; stdout: string }) => error);
  const code = "code" in outcome ? outcome.code : 0;
  const { rounds, connections, ...result } = JSON.parse(outcome.stdout) as Record<string, Figure & number>;
  expect([rounds, connections]).toEqual([3, 100]);
  const figures = Object.values(result).filter((one) => typeof one === "object");
  const figure = expect.any(Number) as number;
  const summary = { bare: figure, handover: figure, ratio: figure, quartiles: [figure, figure] };
  expect(figures).toEqual(
    Array.from({ length: 6 }, () => ({ ...summary, isReached: expect.any(Boolean) as boolean })),
  );
  expect(code).toBe(figures.every(({ isReached }) => isReached) ? 0 : 1);
});

test("bench:tls compares moved connections with accepted ones, and checks its goals", async () => {
  const args = ["bench/tls.js", "--runs", "1", "--json", "--check"];
  const outcome = await run(process.execPath, args).catch((error: { code: number; stdout: string }) => error);
  const code = "code" in outcome ? outcome.code : 0;
  const result = JSON.parse(outcome.stdout) as Record<string, Figure>;
  const figure = expect.any(Number) as number;
  const summary = { without: figure, with: figure, ratio: figure, quartiles: [figure, figure] };
  const figures = [result.handshake!, result.request!, result.download!, result.upload!];
  expect(figures).toEqual(
    Array.from({ length: 4 }, () => ({ ...summary, isReached: expect.any(Boolean) as boolean })),
  );
  expect(code).toBe(figures.every(({ isReached }) => isReached) ? 0 : 1);
});

test("bench:workers judges what it has measured by its goals, and loses nothing", async () => {
  const few = ["--rounds", "1", "--connections", "50", "--upgrades", "1", "--kills", "2", "--scales", "1"];
  const args = [
    "--only",
    "handover",
    "--workers",
    "2",
    ...few,
    "--rest",
    "1",
    "--growth",
    "1",
    "--rare-kills",
    "0",
    "--json",
  ];
  const { stdout } = await run(process.execPath, ["bench/workers/run.js", ...args]);
  const { goals } = JSON.parse(stdout) as { goals: Goal[] };
  const value = (name: string): number => goals.find((goal) => goal.name.startsWith(name))!.value;
  expect(value("requests that failed in upgrades")).toBe(0);
  expect(value("connections that were closed in upgrades")).toBe(0);
  expect(value("connections refused")).toBe(0);
  expect(value("connections reset")).toBe(0);
  expect(value("short connections of the busiest of 2")).toBeGreaterThanOrEqual(1);
  expect(value("memory of the supervisor")).toBeGreaterThan(0);
  for (const { isReached } of goals) expect(isReached).toEqual(expect.any(Boolean));
});

describe("a benchmark that a signal ends leaves none of its servers", () => {
  test.each([
    ["SIGTERM", "upgradable-server.js", ["start.js"]],
    ["SIGHUP", "upgradable-server.js", ["start.js"]],
    ["SIGINT", "upgradable-server.js", ["start.js"]],
    ["SIGTERM", "steady-server.js", ["steady.js"]],
    ["SIGTERM", "tls-server.js", ["tls.js"]],
    ["SIGTERM", "state-server.js", ["state.js", "--units", "1000"]],
    ["SIGTERM", "connections-server.js", ["connections.js", "--connections", "100"]],
    ["SIGTERM", "upgradable-server.js", ["short.js"]],
    ["SIGTERM", "handover-server.js", ["peers/run.js", "--only", "handover", "--tls"]],
    ["SIGTERM", "cluster-server.js", ["peers/run.js", "--only", "cluster"]],
    ["SIGTERM", "plain-server.js", ["peers/run.js", "--only", "restart"]],
    ["SIGTERM", "handover-server.js", ["workers/run.js", "--only", "handover"]],
    ["SIGTERM", "cluster-server.js", ["workers/run.js", "--only", "cluster"]],
  ] as const)("%s, which has started %s: %j", async (signal, program, words) => {
    const { how, commands, files } = await endBenchmark(signal, program, words);
    expect(how).toEqual([128 + constants.signals[signal], null]);
    await expect.poll(commands, { timeout: 10_000 }).toEqual([]);
    expect(files()).toEqual([]);
  });
});

interface Goal {
  name: string;
  value: number;
  isReached: boolean;
}

interface Figure {
  isReached: boolean;
}
