import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FaultInjector } from "../support/fault-injector.js";
import { handover } from "../support/program.js";
import { temporaryDirectory } from "../support/service.js";
import {
  said,
  says,
  servesAlone,
  startStaging,
  untilDead,
  untilStopped,
  upgradesAfresh,
} from "../support/staged.js";

const UNANSWERED = /^the successor \(pid \d+\) did not answer$/;

describe("a staged process that is stopped by SIGSTOP", () => {
  test("is killed when its time is over, and the server goes on", async () => {
    const first = await startStaging();
    const staged = await first.stage({ ttl: 500 });
    staged.kill("SIGSTOP");
    expect(await says(first, "unstaged")).toMatchObject({ reason: "its time of 500 ms is over" });
    await servesAlone(first);
  });

  test("is killed when it is unstaged, and the server goes on", async () => {
    const first = await startStaging();
    const staged = await first.stage();
    staged.kill("SIGSTOP");
    expect(await first.tell("unstage")).toMatchObject({ pid: staged.pid });
    await servesAlone(first);
  });

  test("is killed when the server stops, which exits with 0", async () => {
    const first = await startStaging();
    const staged = await first.stage();
    staged.kill("SIGSTOP");
    await first.service.stop();
    expect(await first.service.exited).toEqual([0, null]);
    expect(said(first, "unstaged")).toMatchObject([{ reason: "this process is stopping" }]);
  });

  test("accepts once it goes on if the server was killed meanwhile", async () => {
    const first = await startStaging();
    const staged = await first.stage();
    staged.kill("SIGSTOP");
    first.kill();
    await first.service.exited;
    staged.kill("SIGCONT");
    await staged.says("accepting");
    expect(await first.service.ask()).toBe(String(staged.pid));
    await upgradesAfresh(staged);
  });
});

test("an upgrade kills a staged process whose event loop is blocked, and starts another one", async () => {
  const first = await startStaging();
  const staged = await first.stage();
  await staged.tell("loop");
  const successor = await upgradesAfresh(first);
  expect(said(first, "unstaged")).toMatchObject([{ reason: expect.stringMatching(UNANSWERED) as unknown }]);
  await expect.poll(() => first.service.alive()).toEqual([successor.pid]);
});

describe("a staged process that is killed while an upgrade commits it", () => {
  test("before it has answered that it still is ready: the upgrade starts another one", async () => {
    const injector = new FaultInjector();
    const first = await startStaging({}, injector.env);
    const staged = await first.stage();
    injector.arm({ process: 1, type: "ready", nth: 1, signal: "SIGKILL" });
    await upgradesAfresh(first);
    const reason = `the successor (pid ${staged.pid}) was killed by SIGKILL`;
    expect(said(first, "unstaged")).toMatchObject([{ reason: expect.stringContaining(reason) as unknown }]);
    expect(said(first, "failed")).toEqual([]);
  });

  test("before the commit is sent: the upgrade fails, and the next one starts another one", async () => {
    const injector = new FaultInjector();
    const first = await startStaging({}, injector.env);
    const staged = await first.stage();
    injector.arm({ process: 0, type: "commit", nth: 1, signal: "SIGSTOP" });
    const failing = first.failsToUpgrade();
    await untilStopped(first.pid);
    staged.kill();
    await untilDead(staged.pid);
    first.kill("SIGCONT");
    expect(await failing).toMatchObject({
      code: "ERR_CHILD_EXITED",
      message: `the successor (pid ${staged.pid}) was killed by SIGKILL`,
    });
    await servesAlone(first);
  });

  test("when it acknowledges the commit: the upgrade is rolled back, and a successor can be staged again", async () => {
    const injector = new FaultInjector();
    const first = await startStaging({}, injector.env);
    const killed = await first.stage();
    injector.arm({ process: 1, type: "commit-ack", nth: 1, signal: "SIGKILL" });
    first.kill("SIGHUP");
    expect(await says(first, "rollback")).toMatchObject({
      code: "ERR_CHILD_EXITED",
      message: `the successor (pid ${killed.pid}) was killed by SIGKILL`,
    });
    expect(await first.service.ask()).toBe(String(first.pid));
    const staged = await first.stage();
    expect((await first.upgrade()).pid).toBe(staged.pid);
    await first.service.until("upgraded", { pid: staged.pid, staged: true });
  });
});

describe("a rollback and a stage", () => {
  test("neither the process that was replaced nor the one on probation stages, and both can after the rollback and the end of probation", async () => {
    const first = await startStaging({ probation: 60_000, drainTimeout: 1_000 });
    await first.stage();
    const second = await first.upgrade();
    await expect(first.tell("stage")).rejects.toMatchObject({ code: "ERR_ALREADY_UPGRADED" });
    await expect(second.tell("stage")).rejects.toMatchObject({ code: "ERR_ON_PROBATION" });
    second.kill();
    await says(first, "rollback");
    const staged = await first.stage();
    expect((await first.upgrade()).pid).toBe(staged.pid);
  });
});

describe("signals and a staged process", () => {
  test("SIGTERM to the whole group ends both, and the server exits with 0", async () => {
    const first = await startStaging();
    await first.stage();
    process.kill(-first.service.pid, "SIGTERM");
    expect(await first.service.exited).toEqual([0, null]);
    await first.service.ended();
    expect(first.service.alive()).toEqual([]);
  });

  test("SIGTERM to the staged process alone throws it away, and the server goes on", async () => {
    const first = await startStaging();
    const staged = await first.stage();
    staged.kill("SIGTERM");
    expect(await says(first, "unstaged")).toMatchObject({
      reason: expect.stringMatching(
        `^the successor \\(pid ${staged.pid}\\) exited with code 1\\b`,
      ) as unknown,
    });
    await servesAlone(first);
  });

  test("SIGHUP to the staged process is refused, and the server's upgrade still commits it", async () => {
    const first = await startStaging();
    const staged = await first.stage();
    staged.kill("SIGHUP");
    expect(await staged.says("failed")).toMatchObject({ code: "ERR_NOT_READY" });
    expect((await first.upgrade()).pid).toBe(staged.pid);
  });
});

test("a staged process whose server is killed takes its place in the PID file, and on the control socket", async () => {
  const pidFile = join(temporaryDirectory(), "app.pid");
  const first = await startStaging({ pidFile });
  const staged = await first.stage();
  expect(readFileSync(pidFile, "utf8")).toBe(`${first.pid}\n`);
  first.kill();
  await staged.says("accepting");
  expect(readFileSync(pidFile, "utf8")).toBe(`${staged.pid}\n`);
  expect((await handover("status", "--pid-file", pidFile)).stdout).toMatch(
    new RegExp(`^pid +${staged.pid}$`, "m"),
  );
  expect(readdirSync(join(pidFile, ".."))).toEqual(["app.pid", "app.pid.sock"]);
});
