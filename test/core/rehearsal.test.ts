import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { handover, jsonLines, startHandover } from "../support/program.js";
import { Client } from "../support/client.js";
import { Service, temporaryDirectory } from "../support/service.js";

describe("handover upgrade --dry-run", () => {
  test("handover upgrade --dry-run starts the new code up to ready(), stops it, and prints the times", async () => {
    const { service, port } = await serve({});
    const client = await Client.open(port);
    const run = await handover("upgrade", service.pid, "--dry-run");
    const { pid } = await service.until("rehearsed", { generation: 1 });
    expect(run.stdout).toMatch(
      new RegExp(
        `^dry run for pid ${service.pid}\n +spawned +pid ${pid}, generation 1\n +ready +after .*\n` +
          `dry run passed: the new code started and was stopped again; pid ${service.pid} is still serving\n$`,
      ),
    );
    expect(run).toMatchObject({ code: 0, stderr: "" });
    expect(service.alive()).toEqual([service.pid]);
    client.request("/");
    expect((await client.response()).body).toBe(String(service.pid));
    // Nothing of a commit: the old process has kept its role, and the new one never had it.
    expect(service.lines.map(({ event, generation }) => `${generation} ${event}`)).toEqual([
      "0 listening",
      "0 acquired",
      "0 ready",
      "0 accepting",
      "0 upgrading",
      "1 listening",
      "1 rehearsed",
    ]);
  });

  test("handover upgrade --dry-run --json prints JSON, and an upgrade works after it", async () => {
    const { service } = await serve({ probation: 200 });
    const run = await handover("upgrade", service.pid, "--dry-run", "--json");
    expect(jsonLines(run)).toEqual([
      { phase: "spawned", pid: expect.any(Number) as number, generation: 1 },
      {
        answer: "rehearsed",
        pid: expect.any(Number) as number,
        generation: 1,
        timings: { spawn: expect.any(Number) as number, ready: expect.any(Number) as number },
      },
    ]);
    expect((await handover("upgrade", service.pid)).code).toBe(0);
    await service.until("accepting", { generation: 1 });
  });

  test("handover upgrade --dry-run kills new code that does not exit", async () => {
    const { service } = await serve({ stay: true });
    const run = await handover("upgrade", service.pid, "--dry-run");
    expect(run).toMatchObject({ code: 0, stderr: "" });
    expect(service.alive()).toEqual([service.pid]);
  });

  test("handover upgrade --dry-run fails as the upgrade would", async () => {
    const pidFile = join(temporaryDirectory(), "app.pid");
    const service = Service.start("faulty-successor.js", { settings: { pidFile, fault: "exit" } });
    await service.until("accepting");
    const failed = await handover("upgrade", service.pid, "--dry-run");
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(
      /^handover: the successor \(pid \d+\) exited with code 3; its stderr is a pipe; pid \d+ keeps serving\n$/,
    );
    expect(service.alive()).toEqual([service.pid]);
  });

  test("handover upgrade --dry-run fails after --timeout", async () => {
    const service = await hang();
    expect(await handover("upgrade", service.pid, "--dry-run", "--timeout", 300)).toMatchObject({
      code: 1,
      stderr: `handover: the successor was not ready within 300 ms; pid ${service.pid} keeps serving\n`,
    });
    expect(service.alive()).toEqual([service.pid]);
  });

  test("an upgrade is refused during a rehearsal", async () => {
    const service = await hang();
    const first = startHandover(["upgrade", service.pid, "--dry-run"]);
    await first.untilPrinted(/spawned/);
    expect((await handover("upgrade", service.pid)).stderr).toBe(
      "handover: cannot upgrade: an upgrade is in progress\n",
    );
    const { pid } = await service.until("upgrading");
    process.kill(pid, "SIGKILL");
    expect(await first.ended).toMatchObject({
      code: 1,
      stderr: `handover: the successor (pid ${pid}) was killed by SIGKILL; pid ${service.pid} keeps serving\n`,
    });
    expect(service.alive()).toEqual([service.pid]);
  });
});

async function serve(settings: object): Promise<{ service: Service; port: number }> {
  const pidFile = join(temporaryDirectory(), "app.pid");
  const service = Service.start("role-holder.js", { settings: { pidFile, ...settings } });
  const { address } = await service.until("listening");
  await service.until("accepting");
  return { service, port: (address as AddressInfo).port };
}

/** A service whose new code never gets ready. */
async function hang(): Promise<Service> {
  const pidFile = join(temporaryDirectory(), "app.pid");
  const service = Service.start("faulty-successor.js", { settings: { pidFile, fault: "hang" } });
  await service.until("accepting");
  return service;
}
