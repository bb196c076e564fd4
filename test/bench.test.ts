import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const run = promisify(execFile);

interface Summary {
  median: number;
  min: number;
  max: number;
  ratio: number;
}

test("bench:start compares with a program that does not import handover", async () => {
  expect(readFileSync("bench/bare-server.js", "utf8")).not.toMatch(/from "(handover|\.)/);
  const { stdout } = await run(process.execPath, ["bench/start.js", "--runs", "1", "--json"]);
  const result = JSON.parse(stdout) as Record<"bare" | "handover" | "upgrade", Summary>;
  const figure = expect.any(Number) as number;
  const summary = { median: figure, min: figure, max: figure, ratio: figure };
  expect(result).toMatchObject({ runs: 1, bare: summary, handover: summary, upgrade: summary });
  expect(result.bare.ratio).toBe(1);
  expect(result.upgrade.ratio).toBe(result.upgrade.median / result.bare.median);
});
