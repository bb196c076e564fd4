import { execFileSync } from "node:child_process";
import { chmodSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ControlClient } from "../../dist/control/client.js";
import type { Actor } from "../support/actor.js";
import { forAnotherUser } from "../support/another-user.js";
import { FaultInjector } from "../support/fault-injector.js";
import { asRoot, isSkipped } from "../support/root.js";
import { descriptorCount, Service, temporaryDirectory } from "../support/service.js";
import { startStaging } from "../support/staged.js";

/** Stages in vain: nothing changes. Returns the reason. */
async function failsToStage(server: Actor): Promise<string> {
  const { service, pid } = server;
  const before = descriptorCount(pid);
  const refusal: unknown = await server.tell("stage").catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: "ERR_SPAWN" });
  expect(service.alive()).toEqual([pid]);
  await expect.poll(() => service.children()).toEqual([]);
  // One more before may have been that of an answer.
  await expect.poll(() => descriptorCount(pid)).toBeLessThanOrEqual(before);
  expect(await service.ask()).toBe(String(pid));
  return (refusal as Error).message;
}

/** Sees that a successor can be staged, and is committed. */
async function stagesAgain(server: Actor): Promise<void> {
  const { pid } = await server.stage();
  expect((await server.upgrade()).pid).toBe(pid);
}

const missing = "/missing/of/handover";

describe("a stage that cannot start a process changes nothing, and the next one does", () => {
  test.each([
    ["posix_spawn", "ENOMEM"],
    ["posix_spawn", "EAGAIN"],
    ["posix_spawn", "ENFILE"],
    ["socketpair", "EMFILE"],
  ] as const)("when %s fails with %s", async (name, error) => {
    const injector = new FaultInjector();
    const server = await startStaging({}, injector.env);
    injector.arm({ process: 0, function: name, calls: 1, error });
    const reason = new RegExp(`^cannot start a successor, .* in /.*: .*\\b${error}`);
    expect(await failsToStage(server)).toMatch(reason);
    await stagesAgain(server);
  });

  test.each([
    ["directory", { cwd: missing }, `^cannot start a successor in ${missing}: there is no such directory$`],
    [
      "command",
      { command: missing },
      `^cannot start a successor, ${missing} .* in /.*: spawn ${missing} ENOENT$`,
    ],
  ])("when its %s is not there", async (_, plan, reason) => {
    const server = await startStaging();
    await server.tell("plan", plan);
    expect(await failsToStage(server)).toMatch(new RegExp(reason));
    await server.tell("plan", {});
    await stagesAgain(server);
  });

  test.skipIf(isSkipped)(`when the user has too many processes${asRoot}`, async () => {
    const directory = temporaryDirectory();
    chmodSync(directory, 0o777);
    const controlSocket = join(directory, "control");
    const words = forAnotherUser().fixture("http.js", { controlSocket });
    const user = ["--reuid=65532", "--clear-groups"];
    const service = Service.start("", { command: ["setpriv", ...user, ...words], cwd: "/" });
    await service.until("accepting");
    const { pid } = service;
    const [, most] = /^Max processes +\S+ +(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, "utf8"))!;
    const limit = (processes: string): unknown =>
      execFileSync("setpriv", [...user, "prlimit", `--pid=${pid}`, `--nproc=${processes}:`]);
    const stage = async (): Promise<{ pid: number }> =>
      (await ControlClient.connect(controlSocket)).ask({ command: "stage" });
    const refused = {
      code: "ERR_SPAWN",
      message: expect.stringMatching(/^cannot start a successor, .* in \/: spawn .* EAGAIN$/) as unknown,
    };
    limit("1");
    await expect(stage()).rejects.toMatchObject(refused);
    expect(await service.upgrade("failed")).toMatchObject(refused);
    expect(await service.ask()).toBe(String(pid));
    await expect.poll(() => service.children()).toEqual([]);
    limit(most!);
    const staged = await stage();
    expect((await service.upgrade()).pid).toBe(staged.pid);
  });
});
