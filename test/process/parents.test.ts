import { chmodSync, constants, copyFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { fixturePath, words } from "../support/faults.js";
import { handover } from "../support/program.js";
import { asRoot, isSkipped } from "../support/root.js";
import { Service, temporaryDirectory } from "../support/service.js";

describe.each([
  ["a Node that runs a command", (program: string[]) => [...wrapper(), ...program], "node runs-command.js"],
  [
    "a Node that runs a command by a shell",
    (program) => [...wrapper(), "sh", "-ec", '"$@"; exit', "sh", ...program],
    "node runs-command.js",
  ],
  ["npm", npmStart, "npm start"],
] as [string, (program: string[]) => string[], string][])("under %s", (name, commandOf, parent) => {
  test(`a program under ${name} is warned of the parent that ends at the first upgrade`, async () => {
    const pidFile = join(temporaryDirectory(), "pid");
    const command = commandOf(words("http.js", { pidFile, probation: 50 }));
    const service = Service.start("", { command });
    const { pid } = await service.until("accepting");
    const waits = new RegExp(
      `${parent} \\(pid \\d+\\) waits for this process, and takes the first upgrade for`,
    );
    expect(await service.untilNoise(/HANDOVER_MANAGER.*/)).toMatch(waits);
    const { code, stdout } = await handover("doctor", "--pid-file", pidFile);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^warning +manager +${parent} \\(pid \\d+\\) waits for it$`, "m"));
    const successor = await service.upgrade();
    await service.until("exited", { pid });
    await service.exited;
    expect(await service.ask()).toBe(String(successor.pid));
    // The parent of the successor is its predecessor, which is a Node of the same group, too.
    expect(service.noise.match(/HANDOVER_MANAGER/g)).toHaveLength(1);
    expect((await handover("doctor", "--pid-file", pidFile)).stdout).toMatch(/^ok +manager /m);
    // There is no terminal.
    expect(service.noise).not.toContain("this process leaves");
  });
});

test("a program is warned of the init of a container that waits for it", async () => {
  const init = script("tini", '"$@"; exit');
  const pidFile = join(temporaryDirectory(), "pid");
  const service = Service.start("", { command: [init, ...words("http.js", { pidFile })] });
  await service.until("accepting");
  expect(await service.untilNoise(/HANDOVER_MANAGER.*/)).toMatch(/tini \(pid \d+\) waits for this process/);
  const { code, stdout } = await handover("doctor", "--pid-file", pidFile);
  expect(code).toBe(1);
  expect(stdout).toMatch(/^error +pid-1 +tini \(pid \d+\) waits for it$/m);
});

test("a Node of another name, whose file was replaced since, waits as well", async () => {
  const directory = temporaryDirectory();
  const node = join(directory, "nodejs");
  copyFileSync(process.execPath, node, constants.COPYFILE_FICLONE);
  const pidFile = join(directory, "pid");
  const command = [node, fixturePath("runs-command.js"), ...words("http.js", { pidFile })];
  const service = Service.start("", { command });
  await service.until("accepting");
  expect(await service.untilNoise(/HANDOVER_MANAGER.*/)).toMatch(/nodejs runs-command\.js \(pid \d+\) waits/);
  rmSync(node);
  const { stdout } = await handover("doctor", "--pid-file", pidFile);
  expect(stdout).toMatch(/^warning +manager +nodejs runs-command\.js \(pid \d+\) waits for it$/m);
});

test.skipIf(isSkipped)(`a program is warned of a waiting parent that is PID 1${asRoot}`, async () => {
  const unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
  const service = Service.start("", { command: [...unshare, ...wrapper(), ...words("http.js")] });
  await service.until("accepting");
  expect(await service.untilNoise(/HANDOVER_MANAGER.*/)).toMatch(/node runs-command\.js \(pid 1\) waits for/);
});

/** A Node that runs a command with these options of `spawn()`, and passes on what it prints. */
const runsWith = (options: object): string[] => {
  const spawn = `spawn(process.argv[1], process.argv.slice(2), ${JSON.stringify(options)})`;
  return [process.execPath, "-e", `require("node:child_process").${spawn}.stdout?.pipe(process.stdout)`];
};

test.each([
  ["a Node that keeps it apart, with an output of its own", () => []],
  [
    "a Node of the same group that reads its output",
    () => runsWith({ stdio: ["ignore", "pipe", "inherit"] }),
  ],
  ["a Node of another group with the same output", () => runsWith({ stdio: "inherit", detached: true })],
  ["a shell script, which may go on", () => [script("start.sh", '"$@"; exit')]],
])("a program is not warned of %s", async (_, parent) => {
  const pidFile = join(temporaryDirectory(), "pid");
  const service = Service.start("", { command: [...parent(), ...words("http.js", { pidFile })] });
  const { pid } = await service.until("accepting");
  // The one of another group would outlive a test that fails.
  onTestFinished(() => void (isRunning(pid) && process.kill(pid, "SIGKILL")));
  expect((await handover("doctor", "--pid-file", pidFile)).stdout).toMatch(/^ok +manager /m);
  await service.stop();
  expect(service.noise).toBe("");
});

test("on a terminal the first process says that the service goes on, and how to stop it", async () => {
  const command = ["python3", fixturePath("on-terminal.py"), ...words("http.js", { probation: 50 })];
  const service = Service.start("", { command });
  const { pid } = await service.replace();
  const line = await service.untilNoise(/handover: this process leaves.*/);
  expect(line).toContain(`the service goes on as pid ${pid}; to stop it: kill ${pid}`);
  expect(await service.exited).toEqual([0, null]);
  // The shell has shown its prompt at the first upgrade.
  const { pid: last } = await service.replace();
  process.kill(last, "SIGTERM");
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

/** A shell script of this name. */
function script(name: string, text: string): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
