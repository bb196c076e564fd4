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
