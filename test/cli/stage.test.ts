import { join } from "node:path";
import { expect, test } from "vitest";
import { handover, jsonLines } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";

test("handover stage starts the new code, and handover upgrade commits that process", async () => {
  const service = await serve();
  const staged = await handover("stage", service.pid, "--ttl", "5m");
  const { pid } = await service.until("staged", { of: 1 });
  expect(staged.stdout).toMatch(
    new RegExp(
      `^staging an upgrade of pid ${service.pid}\n +spawned +pid ${pid}, generation 1\n` +
        `staged: pid ${pid} is ready, and waits \\d+ min \\d+ s for "handover upgrade"\n$`,
    ),
  );
  expect(await service.ask()).toBe(String(service.pid));
  expect((await handover("status", service.pid)).stdout).toMatch(
    new RegExp(`^staged +pid ${pid}, generation 1: \\d min \\d+ s left$`, "m"),
  );
  const upgraded = await handover("upgrade", service.pid);
  expect(upgraded.stdout).toMatch(
    new RegExp(
      `  staged +pid ${pid}, generation 1\n +ready .*\n +took +.* from the request to the commit; .* before it`,
    ),
  );
  expect(await service.ask()).toBe(String(pid));
});

test("SIGHUP commits the staged process, and the next generation can stage as well", async () => {
  const service = await serve();
  for (const generation of [1, 2]) {
    const { pid } = service.accepting!;
    const staged = jsonLines(await handover("stage", pid, "--json")).at(-1)!;
    await service.upgrade();
    expect(await service.ask()).toBe(String(staged["pid"]));
    await service.confirmed(generation);
  }
});

test("handover unstage ends the staged process, and the server goes on", async () => {
  const service = await serve();
  expect((await handover("unstage", service.pid)).stdout).toBe("nothing was staged\n");
  await handover("stage", service.pid);
  const { pid } = await service.until("staged", { of: 1 });
  expect((await handover("unstage", service.pid)).stdout).toBe(`unstaged: pid ${pid} was told to exit\n`);
  await service.until("rehearsed", { generation: 1 });
  await expect.poll(() => service.alive()).toEqual([service.pid]);
  expect(await service.ask()).toBe(String(service.pid));
});

test.each(["SIGSTOP", "SIGKILL"] as const)(
  "an upgrade after %s to the staged process starts another one, and says why",
  async (signal) => {
    const service = await serve();
    await handover("stage", service.pid);
    const { pid } = await service.until("staged", { of: 1 });
    process.kill(pid, signal);
    const { code, stdout } = await handover("upgrade", service.pid, "--json");
    expect(code).toBe(0);
    const { reason } = await service.until("unstaged", { of: 1 });
    expect(reason).toBe(
      signal === "SIGSTOP"
        ? `the successor (pid ${pid}) did not answer`
        : `the successor (pid ${pid}) was killed by SIGKILL`,
    );
    expect(JSON.parse(stdout.trim().split("\n").at(-1)!)).toMatchObject({
      answer: "upgraded",
      staged: false,
    });
    expect(await service.ask()).not.toBe(String(pid));
  },
);

test("a staged process accepts when the server crashes", async () => {
  const service = await serve();
  await handover("stage", service.pid);
  const { pid } = await service.until("staged", { of: 1 });
  process.kill(service.pid, "SIGKILL");
  await service.until("accepting", { generation: 1 });
  expect(await service.ask()).toBe(String(pid));
});

test("handover stop ends the staged process with the server", async () => {
  const service = await serve();
  await handover("stage", service.pid);
  expect((await handover("stop", service.pid)).code).toBe(0);
  await service.ended();
  expect(service.alive()).toEqual([]);
});

test("handover stage refuses a time that it does not understand", async () => {
  const refused = await handover("stage", 1, "--ttl", "soon");
  expect(refused).toMatchObject({ code: 2, stdout: "" });
  expect(refused.stderr).toContain("It must be a time, such as 500ms, 60s, 5m or 1h.");
});

async function serve(): Promise<Service> {
  const settings = { pidFile: join(temporaryDirectory(), "app.pid"), probation: 200 };
  const service = Service.start("http.js", { settings });
  await service.until("accepting");
  return service;
}
