import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/service.js";
import { Application, QUIET_END, UPGRADES } from "./application.js";

test.each([
  ["a worker of a queue", "queue"],
  ["node-cron", "cron"],
])("%s: no job is done twice over upgrades, and each process has one turn", async (_, directory) => {
  const file = join(temporaryDirectory(), "jobs");
  writeFileSync(file, "");
  const turns = (): string[] => {
    const pids = linesOf(file).map(([, pid]) => pid!);
    return pids.filter((pid, n) => pid !== pids[n - 1]);
  };
  const application = new Application({ directory, args: ["server.js"], env: { JOBS: file } });
  for (let n = 0; n < UPGRADES; n++) {
    await expect.poll(turns).toHaveLength(n + 1);
    await application.command("upgrade");
  }
  await expect.poll(turns).toHaveLength(UPGRADES + 1);
  expect(await application.stop()).toEqual(QUIET_END);
  expect(turns()).toHaveLength(UPGRADES + 1);
  const jobs = linesOf(file).map(([job]) => job);
  expect(new Set(jobs).size).toBe(jobs.length);
});

function linesOf(file: string): string[][] {
  const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => line.split(" by "));
}
