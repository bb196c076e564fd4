import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { finish, isServed, startWithClient } from "../support/faults.js";
import { temporaryDirectory, type Service } from "../support/service.js";

/** How each generation has ended, in its own words. */
function outcomes(service: Service): unknown[] {
  const exited = service.lines.filter(({ event }) => event === "exited");
  return exited.toSorted((a, b) => a.generation - b.generation).map(({ outcome }) => outcome);
}

test.each(["start", "initialized"])(
  "SIGTERM while the successor is at the phase %s ends both processes",
  async (phase) => {
    const directory = temporaryDirectory();
    const running = await startWithClient("pauses-at-phases.js", {
      pause: [phase],
      pidFile: join(directory, "pid"),
    });
    const { service, client } = running;
    client.destroy();
    process.kill(service.pid, "SIGHUP");
    await service.until("paused");
    process.kill(service.pid, "SIGTERM");
    await service.ended();
    expect(await service.exited).toEqual([0, null]);
    expect(service.lines.find(({ event }) => event === "failed")).toMatchObject({ code: "ERR_STOPPED" });
    expect(outcomes(service)).toEqual(["stopped"]);
    expect(readdirSync(directory)).toEqual([]);
  },
);

test.each([
  ["the predecessor", 0],
  ["the successor", 1],
])("SIGTERM to %s on probation ends both processes, without a rollback", async (_, generation) => {
  const directory = temporaryDirectory();
  const running = await startWithClient("pauses-at-phases.js", {
    probation: 20_000,
    pidFile: join(directory, "pid"),
  });
  const { service, client } = running;
  client.destroy();
  const successor = await service.upgrade();
  process.kill(generation === 0 ? service.pid : successor.pid, "SIGTERM");
  await service.ended();
  expect(await service.exited).toEqual([0, null]);
  expect(outcomes(service)).toEqual(["stopped", "stopped"]);
  expect(service.lines.filter(({ event }) => event === "rollback")).toEqual([]);
  expect(readdirSync(directory)).toEqual([]);
  expect(service.noise).toBe("");
});

test("SIGTERM on probation lets the predecessor finish its requests", async () => {
  const running = await startWithClient("pauses-at-phases.js", { probation: 20_000 });
  const { service } = running;
  const held = service.ask("/hold");
  await service.until("holding");
  const successor = await service.upgrade();
  process.kill(successor.pid, "SIGTERM");
  await service.until("exited", { pid: successor.pid });
  process.kill(service.pid, "SIGUSR2");
  expect(await held).toBe(String(service.pid));
  await service.ended();
  expect(outcomes(service)).toEqual(["stopped", "stopped"]);
});

test.each(["SIGTERM", "SIGINT"] as const)(
  "a second stop signal, a second after the first, ends the process at once: %s",
  async (second) => {
    const running = await startWithClient("pauses-at-phases.js");
    const { service } = running;
    const held = service.ask("/hold").catch((error: Error) => error.message);
    await service.until("holding");
    process.kill(service.pid, "SIGTERM");
    await service.until("draining");
    await service.signalUntilExit(service.pid, second);
    expect(await service.exited).toEqual([null, second]);
    expect(await held).toBe("socket hang up");
  },
);

test("a process that stops refuses new connections at once, and finishes its requests", async () => {
  const directory = temporaryDirectory();
  const running = await startWithClient("pauses-at-phases.js", { pidFile: join(directory, "pid") });
  const { service } = running;
  const held = service.ask("/hold");
  await service.until("holding");
  process.kill(service.pid, "SIGTERM");
  await service.until("draining");
  expect(await isServed(service.port)).toBe(false);
  process.kill(service.pid, "SIGUSR2");
  expect(await held).toBe(String(service.pid));
  expect(await service.exited).toEqual([0, null]);
});

test("a drain destroys the connections that are left at drainTimeout, and counts them", async () => {
  const running = await startWithClient("pauses-at-phases.js", { drainTimeout: 50, probation: 1 });
  const { service, client } = running;
  client.destroy();
  const held = [service.ask("/hold"), service.ask("/hold")].map((one) => one.catch(String));
  await service.until("holding", { count: 2 });
  const successor = await service.upgrade();
  expect(await Promise.all(held)).toEqual(["Error: socket hang up", "Error: socket hang up"]);
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ outcome: "upgraded", destroyed: 2 });
  await finish(running, successor.pid);
});

test("a process that does not exit within exitTimeout is ended with code 1 and a warning", async () => {
  const running = await startWithClient("never-exits.js", { exitTimeout: 50, probation: 1 });
  const { service } = running;
  const successor = await service.upgrade();
  expect(await service.exited).toEqual([1, null]);
  expect(service.noise).toMatch(
    /HANDOVER_EXIT_TIMEOUT.*: the process did not end after it had been replaced or stopped: .*Timeout.* keeps it alive/,
  );
  expect(service.alive()).toEqual([successor.pid]);
});

test("a signal to a process that has drained does not cut its cleanup short", async () => {
  const running = await startWithClient("never-exits.js", { probation: 1 });
  const { service } = running;
  const successor = await service.upgrade();
  await service.until("exited", { generation: 0 });
  process.kill(service.pid, "SIGHUP");
  await service.until("failed", { pid: service.pid, code: "ERR_ALREADY_UPGRADED" });
  process.kill(service.pid, "SIGTERM");
  process.kill(service.pid, "SIGUSR2");
  expect(await service.exited).toEqual([0, null]);
  expect(service.alive()).toEqual([successor.pid]);
});

test("a successor that waits too long for the commit exits, and its predecessor keeps serving", async () => {
  const running = await startWithClient("short-upgrade-timeout.js");
  const { service } = running;
  process.kill(service.pid, "SIGHUP");
  await service.until("paused");
  process.kill(service.pid, "SIGSTOP");
  const successor = (await service.until("paused")).pid;
  process.kill(successor, "SIGUSR2");
  expect(await service.until("refused", { pid: successor })).toMatchObject({ code: "ERR_UPGRADE_TIMEOUT" });
  process.kill(service.pid, "SIGCONT");
  expect(await service.until("failed")).toMatchObject({ code: "ERR_CHILD_EXITED" });
  expect(await service.ask()).toBe(String(service.pid));
  expect(service.alive()).toEqual([service.pid]);
  await finish(running);
});

test("a successor that is stopped after it has announced itself does not stop its predecessor", async () => {
  const running = await startWithClient("pauses-at-phases.js", { pause: ["initialized"] });
  const { service } = running;
  process.kill(service.pid, "SIGHUP");
  const successor = (await service.until("paused")).pid;
  process.kill(service.pid, "SIGSTOP");
  process.kill(successor, "SIGUSR2");
  await service.until("announced", { pid: successor });
  process.kill(successor, "SIGTERM");
  await service.until("draining", { pid: successor });
  process.kill(service.pid, "SIGCONT");
  const failed = await service.until("failed", { pid: service.pid });
  expect(failed).toMatchObject({ code: "ERR_CHILD_EXITED" });
  await finish(running);
});
