import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { asRoot, isSkipped } from "../support/root.js";

const FIXTURE = fileURLToPath(new URL("../fixtures/supervisor/reaps-orphans.js", import.meta.url));
const CODES = Array.from({ length: 20 }, (_, n) => n + 1);
const AS_PID_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

describe("the orphans", () => {
  it("of a subreaper are reaped, and the exit of each of its own children is told", async () => {
    expect(await run([])).toEqual({ handover: CODES, node: CODES, orphans: 40, zombies: 0 });
  });

  it.skipIf(isSkipped)(
    `of PID 1 are reaped, and the exit of each of its own children is told${asRoot}`,
    async () => {
      expect(await run(AS_PID_1)).toEqual({ handover: CODES, node: CODES, orphans: 40, zombies: 0 });
    },
  );

  it("are reaped even if they have exited before, and own children that have are told", async () => {
    expect(await run([], "late")).toEqual({ handover: CODES, node: [], orphans: 40, zombies: 0 });
  });

  it("stay zombies if no one reaps them", async () => {
    expect(await run([], "never")).toEqual({ handover: CODES, node: CODES, orphans: 40, zombies: 40 });
  });
});

async function run(around: string[], ...args: string[]): Promise<unknown> {
  const [file, ...words] = [...around, process.execPath, FIXTURE, ...args];
  const child = spawn(file!, words, { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  return JSON.parse((await child.stdout.setEncoding("utf8").toArray()).join(""));
}
