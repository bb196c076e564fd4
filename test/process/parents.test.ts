import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fixturePath, words } from "../support/faults.js";
import { handover } from "../support/program.js";
import { asRoot, isSkipped } from "../support/root.js";
import { Service, temporaryDirectory } from "../support/service.js";


describe.each([
  ["a Node that runs a command", (program: string[]) => [...wrapper(), ...program], "node runs-command.js"],
  [
    "a Node that runs a command by a shell",
    (program) => [...wrapper(), "sh", "-c", '"$@"; exit', "sh", ...program],
    "node runs-command.js",
  ],
  ["npm", npmStart, "npm start"],
] as [string, (program: string[]) => string[], string][])("under %s", (name, commandOf, parent) => {
  test(`a program under ${name} is warned of the parent that ends at the first upgrade`, async () => {
    const pidFile = join(temporaryDirectory(), "pid");
    const command = commandOf(words("http.js", { pidFile, probation: 50 }));
    const service = Service.start("", { command });
    const { pid } = await service.until("accepting");
    const waits = new RegExp(`${parent} \\(pid \\d+\\) waits for`, "g");
    expect(await service.untilNoise(/HANDOVER_MANAGER.*/)).toMatch(waits);
    const { stdout } = await handover("doctor", "--pid-file", pidFile);
    expect(stdout).toMatch(new RegExp(`^warning +manager +${parent} \\(pid \\d+\\) waits for it$`, "m"));
    await service.upgrade();
    await service.until("exited", { pid });
    await service.exited;
    // The parent of the successor is its predecessor, which is a Node of the same group, too.
    expect(service.noise.match(/HANDOVER_MANAGER/g)).toHaveLength(1);
    expect((await handover("doctor", "--pid-file", pidFile)).stdout).toMatch(/^ok +manager /m);
  });
});

test.skipIf(isSkipped)(`a program is warned of a waiting parent that is PID 1${asRoot}`, async () => {
  const unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
  const service = Service.start("", { command: [...unshare, ...wrapper(), ...words("http.js")] });
  await service.until("accepting");
  expect(await service.untilNoise(/HANDOVER_MANAGER.*/)).toMatch(/node runs-command\.js \(pid 1\) waits for/);
});

test("a program that a Node keeps apart, with an output of its own, is not warned", async () => {
  const service = Service.start("http.js");
  await service.until("accepting");
  await service.stop();
  expect(service.noise).toBe("");
});

test("on a terminal the first process says that the service goes on, and how to stop it", async () => {
  const command = ["python3", fixturePath("on-terminal.py"), ...words("http.js", { probation: 50 })];
  const service = Service.start("", { command });
  const { pid } = await service.upgrade();
  const line = await service.untilNoise(/handover: this process leaves.*/);
  expect(line).toContain(`the service goes on as pid ${pid}; to stop it: kill ${pid}`);
  expect(await service.exited).toEqual([0, null]);
  process.kill(pid, "SIGTERM");
  await service.ended();
  expect(service.noise.match(/this process leaves/g)).toHaveLength(1);
});

/** A Node that runs a command. A blank in its path is no end of a word. */
function wrapper(): string[] {
  const directory = join(temporaryDirectory(), "a blank and ü");
  symlinkSync(fixturePath("."), directory);
  return [process.execPath, join(directory, "runs-command.js")];
}

/** `npm start` in a directory whose package starts the program. */
function npmStart(program: string[]): string[] {
  const directory = temporaryDirectory();
  const start = program.map((word) => `'${word}'`).join(" ");
  writeFileSync(join(directory, "package.json"), JSON.stringify({ scripts: { start } }));
  return ["npm", "--silent", "--prefix", directory, "start"];
}
