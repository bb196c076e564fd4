import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { endBenchmark } from "../support/ended-benchmark.js";

const run = promisify(execFile);

test("bench:global moves every unit over each engine, and prints the engine's rate of single durable updates beside", async () => {
  const args = ["bench/global.js", "--engine", "postgres,etcd", "--units", "300", "--json"];
  const { stdout } = await run(process.execPath, args);
  const figure = expect.any(Number) as number;
  const result = {
    singles: figure,
    moved: 300,
    begun: 300,
    ms: figure,
    rate: figure,
    gap: { p50: figure, p99: figure },
  };
  expect(JSON.parse(stdout)).toEqual({
    units: 300,
    postgres: { engine: "PostgreSQL", ...result },
    etcd: { engine: "etcd", ...result },
  });
});

test("bench:deploy replaces hosts in both orders: no room runs twice or ends, and it moves once if each new host starts first", async () => {
  const { stdout } = await run(process.execPath, [
    "bench/deploy.js",
    "--hosts",
    "3",
    "--rooms",
    "90",
    "--json",
  ]);
  const { hosts, rooms, ...orders } = JSON.parse(stdout) as Record<string, Deploy & number>;
  expect([hosts, rooms]).toEqual([3, 90]);
  expect(Object.keys(orders)).toEqual(["start-first", "stop-first"]);
  for (const { twice, lost } of Object.values(orders)) expect([twice, lost]).toEqual([0, 0]);
  expect(orders["start-first"]!.moves).toBeLessThanOrEqual(1.2);
  // The rooms of the first host go to one that is replaced as well.
  expect(orders["stop-first"]!.moves).toBeGreaterThan(1.2);
});

test.each([
  ["postgres", ["deploy.js"]],
  ["deploy-host.js", ["deploy.js"]],
  ["postgres", ["global.js"]],
  ["global-host.js", ["global.js", "--engine", "postgres"]],
  ["global-host.js", ["global.js", "--engine", "etcd"]],
] as const)(
  "a benchmark that SIGTERM ends leaves neither hosts nor a database, when %s was started: %j",
  async (program, words) => {
    const { how, commands, files } = await endBenchmark("SIGTERM", program, words);
    expect(how).toEqual([143, null]);
    await expect.poll(commands, { timeout: 10_000 }).toEqual([]);
    expect(files()).toEqual([]);
  },
);

interface Deploy {
  moves: number;
  twice: number;
  lost: number;
}
