import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

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
