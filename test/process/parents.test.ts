import { symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { detectProcessManager } from "../../dist/process/parents.js";
import { fixturePath, words } from "../support/faults.js";
import { handover } from "../support/program.js";
import { asRoot, isSkipped } from "../support/root.js";
import { Service, temporaryDirectory } from "../support/service.js";

test.each([
  [{ pm_id: "0", PM2_HOME: "/root/.pm2" }, [], "PM2"],
  [{ pm_id: "0" }, [], undefined],
  [{ WATCH_REPORT_DEPENDENCIES: "1" }, [], "node --watch"],
  [{}, [["node", "/usr/bin/nodemon", "server.js"]], "nodemon"],
  [
    {},
    [
      ["sh", "-c", "x"],
      ["node", "nodemon.js"],
    ],
    "nodemon",
  ],
  [{}, [["node", "server.js", "x", "nodemon"]], undefined],
  [{}, [["node", "my-nodemon-clone"]], undefined],
  [{}, [["supervisord"]], "supervisord"],
  [{}, [], undefined],
])("under the environment %o and the ancestors %o the manager is %s", (env, ancestors, manager) => {
  const found = ancestors.map((one, n) => ({ pid: n + 2, name: basename(one[0]!), words: one }));
  expect(detectProcessManager(env, found, true)).toBe(manager);
});

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

test("under PM2 an upgrade is refused unless it is forced", async () => {
  const pidFile = join(temporaryDirectory(), "pid");
  const env = { pm_id: "0", PM2_HOME: "/root/.pm2" };
  const service = Service.start("http.js", { settings: { pidFile, probation: 50 }, env });
  await service.until("accepting");
  expect(await service.upgrade("failed")).toMatchObject({ code: "ERR_MANAGER" });
  for (const option of ["--dry-run", "--json"]) {
    const { code, stderr } = await handover("upgrade", "--pid-file", pidFile, option);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/it runs under PM2, .* keeps serving\n$/)]);
  }
  expect(service.alive()).toEqual([service.pid]);
  const rehearsal = await handover("upgrade", "--pid-file", pidFile, "--dry-run", "--force");
  expect(rehearsal).toMatchObject({ code: 0, stderr: "" });
  expect(await handover("upgrade", "--pid-file", pidFile, "--force")).toMatchObject({ code: 0, stderr: "" });
  expect(service.accepting).toMatchObject({ generation: 1 });
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
