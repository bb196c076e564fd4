import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FaultInjector, type Fault } from "../support/fault-injector.js";
import { failUpgrade, finish, startWithClient, type Running } from "../support/faults.js";
import { handover, jsonLines } from "../support/program.js";
import { brief, descriptorCount, temporaryDirectory } from "../support/service.js";
import { startStaging, upgradesAfresh } from "../support/staged.js";

/** Every call of the first process. */
const every = (name: Fault["function"], error: Fault["error"]): Fault => {
  return { process: 0, function: name, calls: [1, 1_000_000], error };
};

async function start(
  faults: Fault[],
  fixture = "fails-before-ready.js",
  settings: object = {},
): Promise<Running & { injector: FaultInjector }> {
  const injector = new FaultInjector();
  const running = await startWithClient(fixture, settings, { env: injector.env });
  injector.arm(...faults);
  return { ...running, injector };
}

const systems: [name: string, faults: Fault[], way: "posix_spawn" | "fork"][] = [
  ["with posix_spawn and pidfds", [], "posix_spawn"],
  ["without pidfds", [every("pidfd_open", "ENOSYS")], "posix_spawn"],
  ["where pidfds are forbidden", [every("pidfd_open", "EPERM")], "posix_spawn"],
  ["without a descriptor for a pidfd", [every("pidfd_open", "EMFILE")], "posix_spawn"],
  ["whose posix_spawn cannot change the directory", [every("addchdir", "ENOSYS")], "fork"],
];

describe.each(systems)("a system %s", (_, faults, way) => {
  test("the successor takes over, and is started in the way that blocks least", async () => {
    const running = await start(faults, "http.js", brief);
    const { service, client, injector } = running;
    client.destroy();
    await service.replace();
    const { posix_spawn: fast, fork } = injector.counts(0)!;
    expect({ posix_spawn: fast.calls, fork: fork.calls }).toEqual({ posix_spawn: 0, fork: 0, [way]: 1 });
    await finish(running, service.accepting!.pid);
  });

  test.each([
    ["exits with 0", "ERR_CHILD_EXITED", /exited with code 0$/],
    ["exits with 1", "ERR_CHILD_EXITED", /exited with code 1\b/],
    ["is killed", "ERR_CHILD_EXITED", /was killed by SIGSEGV\b/],
    ["blocks its event loop", "ERR_UPGRADE_TIMEOUT", /was not ready within 1000 ms, and was killed$/],
  ])("a successor that %s changes nothing, and is reaped", async (successor, code, message) => {
    const slow = code === "ERR_UPGRADE_TIMEOUT" ? { upgradeTimeout: 1_000 } : {};
    const running = await start(faults, "fails-before-ready.js", { successor, ...slow });
    const failed = await failUpgrade(running);
    expect(failed["code"]).toBe(code);
    expect(failed["message"]).toMatch(message);
    await expect.poll(() => running.service.children()).toEqual([]);
    await finish(running);
  });

  test("a process that has closed its stdin has successors whose stdin is /dev/null", async () => {
    const running = await start(faults, "closes-stdin.js", brief);
    running.client.destroy();
    await running.service.replace();
    const { standard } = await running.service.until("listening", { generation: 1 });
    const before = (await running.service.until("listening", { generation: 0 }))["standard"] as string[];
    expect(before[0]).toBe("/dev/zero");
    expect(standard).toEqual(["/dev/null", ...before.slice(1)]);
    await finish(running, running.service.accepting!.pid);
  });
});

test("a successor is killed by its pidfd, and by its pid nowhere", async () => {
  const running = await start([], "fails-before-ready.js", {
    successor: "never gets ready",
    upgradeTimeout: 1_000,
  });
  expect(await failUpgrade(running)).toMatchObject({ code: "ERR_UPGRADE_TIMEOUT" });
  expect(running.injector.counts(0)!.pidfd_send_signal).toEqual({ calls: 1, failed: 0 });
  await finish(running);
});

test.each(["EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "EPERM"] as const)(
  "an upgrade whose posix_spawn fails with %s changes nothing, and the next one takes over",
  async (error) => {
    const running = await start([{ process: 0, function: "posix_spawn", calls: 1, error }], "http.js");
    const failed = await failUpgrade(running);
    expect(failed["code"]).toBe("ERR_SPAWN");
    expect(failed["message"]).toMatch(new RegExp(`^cannot start a successor, .* in /.*: spawn .* ${error}$`));
    const { pid } = await running.service.upgrade();
    await finish(running, pid);
  },
);

test("100 upgrades that cannot start a process leave no descriptor and no process behind", async () => {
  const fault: Fault = { process: 0, function: "posix_spawn", calls: [1, 100], error: "EAGAIN" };
  const running = await start([fault], "http.js");
  const { service } = running;
  await failUpgrade(running);
  const before = descriptorCount(service.pid);
  for (let n = 1; n < 100; n++) expect(await service.upgrade("failed")).toMatchObject({ code: "ERR_SPAWN" });
  expect(descriptorCount(service.pid)).toBe(before);
  await expect.poll(() => service.children()).toEqual([]);
  const { pid } = await service.upgrade();
  await finish(running, pid);
});

test("a command of ten megabytes cannot be started, is shown in brief, and the server can still be asked and upgraded", async () => {
  const controlSocket = join(temporaryDirectory(), "control");
  const actor = await startStaging({ controlSocket });
  await actor.tell("plan", { args: Array.from({ length: 100 }, () => "x".repeat(100_000)) });
  // More than ten, as many as the history has.
  for (let n = 0; n < 11; n++) {
    const { code, message } = await actor.failsToUpgrade();
    expect([code, String(message).length < 1_200]).toEqual(["ERR_SPAWN", true]);
  }
  const asked = await handover("upgrade", "--control", controlSocket, "--json");
  expect([asked.code, ...jsonLines(asked)]).toEqual([
    1,
    expect.objectContaining({ answer: "failed", code: "ERR_SPAWN" }),
  ]);
  const [status] = jsonLines(await handover("status", "--control", controlSocket, "--json"));
  expect(status).toMatchObject({ state: "ready", pid: actor.pid });
  await actor.tell("plan", {});
  await upgradesAfresh(actor);
});
