import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { failUpgrade, finish, startWithClient, type Running } from "../support/faults.js";
import { FaultInjector } from "../support/fault-injector.js";
import { temporaryDirectory } from "../support/service.js";

interface Place extends Running {
  directory: string;
  pidFile: string;
}

async function start(settings: object = {}, env: NodeJS.ProcessEnv = {}): Promise<Place> {
  const directory = join(temporaryDirectory(), "run");
  mkdirSync(directory);
  const pidFile = join(directory, "pid");
  const options = { pidFile, probation: 20_000, ...settings };
  return { ...(await startWithClient("pauses-at-phases.js", options, { env })), directory, pidFile };
}

/** Kills the successor on its probation, and waits for the rollback. */
async function rollBack({ service }: Place): Promise<void> {
  const { pid } = await service.upgrade();
  process.kill(pid, "SIGKILL");
  await service.until("rollback");
}

test("the PID file is not written through a link that somebody has put beside it", async () => {
  const place = await start();
  const { service, directory, pidFile } = place;
  const victim = join(directory, "victim");
  writeFileSync(victim, "untouched");
  symlinkSync(victim, `${pidFile}.${service.pid}`);
  await rollBack(place);
  expect(readFileSync(victim, "utf8")).toBe("untouched");
  expect(lstatSync(pidFile).isFile()).toBe(true);
  expect(readFileSync(pidFile, "utf8")).toBe(`${service.pid}\n`);
  await finish(place);
});

test("the PID file names the predecessor again after a rollback with a full disk", async () => {
  const injector = new FaultInjector();
  const place = await start({}, injector.env);
  const { service, directory, pidFile } = place;
  const { pid } = await service.upgrade();
  injector.arm({ process: 0, function: "open", calls: [1, 100_000], error: "ENOSPC" });
  process.kill(pid, "SIGKILL");
  await service.until("rollback");
  expect(readFileSync(pidFile, "utf8")).toBe(`${service.pid}\n`);
  expect(readdirSync(directory).toSorted()).toEqual(["pid", "pid.sock"]);
});

test("an upgrade fails before its commit if the PID file of a rollback cannot be written", async () => {
  const place = await start({ pause: ["initialized"] });
  const { service, client, directory } = place;
  const { pid } = await service.upgrade("paused");
  process.kill(service.pid, "SIGSTOP");
  process.kill(pid, "SIGUSR2");
  await service.until("announced", { pid });
  rmSync(directory, { recursive: true });
  process.kill(service.pid, "SIGCONT");
  expect(await service.until("failed")).toMatchObject({ code: "ERR_PID_FILE" });
  expect(service.lines.filter(({ event }) => event === "rollback")).toEqual([]);
  expect(service.alive()).toEqual([service.pid]);
  expect(await service.ask("/", client)).toBe(String(service.pid));
});

test("a successor that cannot replace the PID file fails before the commit", async () => {
  const place = await start();
  const { service, directory, pidFile } = place;
  rmSync(pidFile);
  mkdirSync(pidFile);
  expect(await failUpgrade(place, directory)).toMatchObject({ code: "ERR_CHILD_EXITED" });
  expect(service.noise).toContain(`cannot write the PID file ${pidFile}: cannot replace ${pidFile}: EISDIR`);
  expect(service.lines.filter(({ event }) => event === "rollback")).toEqual([]);
});

test("a predecessor that is killed during probation leaves no file beside the PID file", async () => {
  const { service, directory, pidFile } = await start();
  const { pid } = await service.upgrade();
  expect(readdirSync(directory)).toHaveLength(3);
  process.kill(service.pid, "SIGKILL");
  await service.until("alone", { pid });
  expect(readdirSync(directory).toSorted()).toEqual(["pid", "pid.sock"]);
  expect(readFileSync(pidFile, "utf8")).toBe(`${pid}\n`);
});
