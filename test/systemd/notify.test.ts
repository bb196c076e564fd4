import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { ControlClient } from "../../dist/control/client.js";
import { Manager } from "../support/manager.js";
import { brief, descriptorCount, Service, temporaryDirectory } from "../support/service.js";

let address: string;
let manager: Manager;

beforeEach(async () => {
  address = join(temporaryDirectory(), "notify");
  manager = await Manager.listen(address);
});

function start(fixture: string, settings: object = brief, env: NodeJS.ProcessEnv = {}): Service {
  return Service.start(fixture, { settings, env: { NOTIFY_SOCKET: address, ...env } });
}

/** Everything but what a heart beats. */
const MILESTONES = ["READY", "RELOADING", "STOPPING", "MAINPID"];

describe("the messages to systemd", () => {
  test("the main process reports an upgrade to systemd, and names the new main process when probation is over", async () => {
    const service = start("http.js");
    await service.until("accepting");
    await manager.until({ READY: "1" });
    const before = process.hrtime.bigint() / 1_000n;
    process.kill(service.pid, "SIGHUP");
    const { pid } = await service.until("accepting", { generation: 1 });
    await manager.until({ STATUS: `upgrading: pid ${pid} initializes` });
    await manager.until({ STATUS: "generation 1 accepts, on probation; generation 0 drains 0 connections" });
    await service.until("exited", { generation: 0 });
    const last = await manager.until({ MAINPID: `${pid}`, STATUS: "generation 1 accepts, 0 connections" });
    expect(last).toMatchObject({ pid, message: { READY: "1" } });
    expect(manager.said(...MILESTONES)).toEqual([
      `READY=1@${service.pid}`,
      `RELOADING=1@${service.pid}`,
      `READY=1@${service.pid}`,
      `MAINPID=${pid}@${service.pid}`,
      `READY=1@${pid}`,
      `MAINPID=${pid}@${pid}`,
    ]);
    const { message } = await manager.until({ RELOADING: "1" });
    expect(BigInt(message["MONOTONIC_USEC"]!)).toBeGreaterThanOrEqual(before);
    expect(BigInt(message["MONOTONIC_USEC"]!)).toBeLessThan(process.hrtime.bigint() / 1_000n);
    expect(service.noise).toBe("");
  });

  test("a process that stops reports that to systemd, and asks for time while it drains", async () => {
    const service = start("http.js");
    await service.until("accepting");
    process.kill(service.pid, "SIGTERM");
    await service.ended();
    const { message } = await manager.until({ STOPPING: "1" });
    expect(message).toMatchObject({ STATUS: "stopping, 0 connections", EXTEND_TIMEOUT_USEC: "10000000" });
    expect(manager.said(...MILESTONES)).toEqual([`READY=1@${service.pid}`, `STOPPING=1@${service.pid}`]);
  });

  test("a process reports to systemd that an upgrade has failed, and why", async () => {
    const service = start("faulty-successor.js", { ...brief, fault: "exit" });
    await service.until("accepting");
    process.kill(service.pid, "SIGHUP");
    const { message } = await service.until("failed");
    await manager.until({
      STATUS: `upgrade failed: ${message as string}; generation 0 accepts, 0 connections`,
    });
    expect(manager.said(...MILESTONES)).toEqual(
      ["READY=1", "RELOADING=1", "READY=1"].map((said) => `${said}@${service.pid}`),
    );
  });

  test("a process reports to systemd that it serves on after a successor could not be staged", async () => {
    const controlSocket = join(temporaryDirectory(), "control");
    const service = start("faulty-successor.js", { ...brief, fault: "exit", controlSocket });
    await service.until("accepting");
    const client = await ControlClient.connect(controlSocket);
    await expect(client.ask({ command: "stage" })).rejects.toMatchObject({ code: "ERR_CHILD_EXITED" });
    const reloading = manager.told.indexOf(await manager.until({ RELOADING: "1" }));
    await manager.until({ READY: "1" }, reloading + 1);
    expect(manager.said(...MILESTONES)).toEqual(
      ["READY=1", "RELOADING=1", "READY=1"].map((said) => `${said}@${service.pid}`),
    );
  });

  test("a process reports to systemd that an upgrade was rolled back, and why", async () => {
    const service = start("faulty-successor.js", { fault: "die", probation: 60_000 });
    await service.until("accepting");
    process.kill(service.pid, "SIGHUP");
    const { message } = await service.until("rollback");
    const status = `rolled back: ${message as string}; generation 0 accepts, 0 connections`;
    await manager.until({ READY: "1", STATUS: status });
    expect(manager.said(...MILESTONES)).toEqual(
      ["READY=1", "RELOADING=1", "READY=1"].map((said) => `${said}@${service.pid}`),
    );
  });

  test("a successor reports to systemd that it is main if the main process dies on probation", async () => {
    const service = start("http.js", { probation: 60_000 });
    await service.until("accepting");
    process.kill(service.pid, "SIGHUP");
    const { pid } = await service.until("accepting", { generation: 1 });
    process.kill(service.pid, "SIGKILL");
    await manager.until({ MAINPID: `${pid}`, READY: "1", STATUS: "generation 1 accepts, 0 connections" });
    await service.stop();
    await manager.until({ STOPPING: "1" });
    expect(manager.said(...MILESTONES)).toEqual([
      `READY=1@${service.pid}`,
      `RELOADING=1@${service.pid}`,
      `READY=1@${pid}`,
      `MAINPID=${pid}@${pid}`,
      `STOPPING=1@${pid}`,
    ]);
  });

  test.each([0, 1])(
    "the main process reports a stop of generation %j on probation to systemd, and exits last",
    async (stopped) => {
      const service = start("http.js", { probation: 60_000 });
      await service.until("accepting");
      process.kill(service.pid, "SIGHUP");
      const { pid } = await service.until("accepting", { generation: 1 });
      process.kill([service.pid, pid][stopped]!, "SIGTERM");
      await service.ended();
      await manager.until({ STOPPING: "1" });
      expect(manager.said(...MILESTONES)).toEqual([
        `READY=1@${service.pid}`,
        `RELOADING=1@${service.pid}`,
        `STOPPING=1@${service.pid}`,
      ]);
      const exits = service.lines.filter(({ event }) => event === "exited");
      expect(exits.map(({ generation }) => generation)).toEqual([1, 0]);
    },
  );

  test("a successor with an environment of its own reports to systemd", async () => {
    const service = start("pauses-at-phases.js");
    await service.replace();
    const { pid } = service.lines.findLast(({ event }) => event === "accepting")!;
    await manager.until({ MAINPID: `${pid}` });
    expect((await manager.until({ STATUS: "generation 1 accepts, 0 connections" })).pid).toBe(pid);
  });

  test("a process reports to systemd at an abstract address", async () => {
    const name = `@handover-${process.pid}`;
    const abstract = await Manager.listen(name);
    const service = start("http.js", brief, { NOTIFY_SOCKET: name });
    await service.until("accepting");
    expect((await abstract.until({ READY: "1" })).pid).toBe(service.pid);
  });
});

describe("the watchdog", () => {
  const env = { WATCHDOG_USEC: "200000" };

  test("the watchdog is fed by the main process, from the start and through an upgrade", async () => {
    const service = start("pauses-at-phases.js", { probation: 500, pause: ["start"] }, env);
    await manager.until({ WATCHDOG: "1" });
    await service.until("accepting");
    process.kill(service.pid, "SIGHUP");
    const paused = await service.until("paused");
    await manager.until({ WATCHDOG: "1" }, manager.told.length);
    process.kill(paused.pid, "SIGUSR2");
    await service.until("accepting", { generation: 1 });
    await service.until("exited", { generation: 0 });
    const moved = manager.told.indexOf(await manager.until({ MAINPID: `${paused.pid}` }));
    await manager.until({ WATCHDOG: "1" }, moved);
    await manager.until({ WATCHDOG: "1" }, manager.told.length);
    const feeders = (part: typeof manager.told): number[] => [
      ...new Set(part.filter(({ message }) => "WATCHDOG" in message).map(({ pid }) => pid)),
    ];
    expect(feeders(manager.told.slice(0, moved))).toEqual([service.pid]);
    expect(feeders(manager.told.slice(moved))).toEqual([paused.pid]);
    // The successor was on probation for longer than the watchdog waits.
    const committed = manager.told.findIndex(({ message }) => message["STATUS"]?.includes("on probation"));
    expect(feeders(manager.told.slice(committed, moved))).toEqual([service.pid]);
  });

  test("the watchdog is not fed if another process is to feed it", async () => {
    const service = start("http.js", brief, { ...env, WATCHDOG_PID: "1" });
    const { pid } = await service.replace();
    await manager.until({ MAINPID: `${pid}` });
    await manager.until({ STATUS: "generation 1 accepts, 0 connections" });
    await service.stop();
    await manager.until({ STOPPING: "1" });
    expect(manager.said("WATCHDOG")).toEqual([]);
  });
});

test("a process that cannot reach systemd warns once, and serves", async () => {
  const service = start("http.js", brief, { NOTIFY_SOCKET: join(address, "nowhere") });
  await service.until("accepting");
  const before = descriptorCount(service.pid);
  const { pid } = await service.replace();
  expect(descriptorCount(pid)).toBeLessThanOrEqual(before + 2);
  await service.stop();
  const warnings = service.noise.split("\n").filter((line) => line.includes("HANDOVER_SYSTEMD"));
  expect(warnings).toHaveLength(2);
  expect(warnings[0]).toContain(`cannot connect to systemd at ${address}/nowhere: ENOTDIR`);
});

test("a process outside of systemd sends no message", async () => {
  const service = start("http.js", brief, { NOTIFY_SOCKET: "", WATCHDOG_USEC: "200000" });
  await service.replace();
  await service.stop();
  expect(manager.told).toEqual([]);
  expect(service.noise).toBe("");
});
