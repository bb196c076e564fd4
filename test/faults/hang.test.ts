import { join } from "node:path";
import { expect, test } from "vitest";
import { finish, startWithClient, type Running } from "../support/faults.js";
import { handover } from "../support/program.js";
import { temporaryDirectory } from "../support/service.js";

const probation = 1_000;

async function start(settings: object): Promise<Running & { pidFile: string }> {
  const directory = temporaryDirectory();
  const pidFile = join(directory, "pid");
  const flag = join(directory, "flag");
  const running = await startWithClient("successor-hangs.js", { probation, pidFile, flag, ...settings });
  return { ...running, pidFile };
}

const UNRESPONSIVE =
  /^the successor \(pid \d+\) did not respond for 3000 ms after the commit, and was killed$/;

/** Waits for the rollback; the old process serves, also on the connections that it had. Returns the reason. */
async function rollBack({ service, client }: Running): Promise<unknown> {
  const { code, message } = await service.until("rollback", { generation: 0 });
  expect(code).toBe("ERR_UNRESPONSIVE");
  expect(service.alive()).toEqual([service.pid]);
  expect(await service.ask()).toBe(String(service.pid));
  expect(await service.ask("/", client)).toBe(String(service.pid));
  return message;
}

test.each(["before-commit", "at-accept"])(
  "a successor whose event loop is blocked for ever %s is killed, and its predecessor serves every connection again",
  async (hang) => {
    const running = await start({ hang });
    await running.service.upgrade("hanging");
    expect(await rollBack(running)).toMatch(UNRESPONSIVE);
    await finish(running);
  },
);

test("a successor that reads the commit late, and is blocked for ever from then on, is killed", async () => {
  const running = await start({ hang: "at-accept", delay: 750 });
  await running.service.upgrade("hanging");
  expect(await rollBack(running)).toMatch(UNRESPONSIVE);
  await finish(running);
});

test("a successor that is stopped by SIGSTOP on probation is killed, and the upgrade is rolled back", async () => {
  // Longer than it takes to accept on a busy machine: a process that is confirmed is not killed.
  const running = await start({ hang: "stopped", probation: 3_000 });
  await running.service.upgrade("hanging");
  expect(await rollBack(running)).toMatch(UNRESPONSIVE);
  await finish(running);
});

test("a successor that blocks for 2 s when it accepts is confirmed, and serves", async () => {
  const running = await start({ hang: "at-accept", ms: 2_000 });
  const { service } = running;
  const { pid } = await service.upgrade("hanging");
  expect(await service.until("recorded")).toMatchObject({ outcome: "confirmed" });
  await service.until("exited", { generation: 0, outcome: "upgraded" });
  await finish(running, pid);
});

test("handover upgrade waits for the end of probation, and prints the reason of a rollback", async () => {
  const running = await start({ hang: "before-commit" });
  const { code, stdout, stderr } = await handover("upgrade", "--pid-file", running.pidFile);
  expect(code).toBe(1);
  expect(stdout + stderr).toMatch(/did not respond for 3000 ms after the commit/);
  expect(await rollBack(running)).toMatch(UNRESPONSIVE);
  await finish(running);
});
