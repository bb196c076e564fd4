import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { freePort } from "../support/port.js";
import { asRoot, isSkipped } from "../support/root.js";
import { childrenOf, Service } from "../support/service.js";

const HANDOVER = fileURLToPath(new URL("../../bin/handover.js", import.meta.url));
const PROGRAM = fileURLToPath(new URL("../fixtures/supervisor/says-signals.js", import.meta.url));
const AS_PID_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

const places = [
  { name: "a supervisor", around: [], endOfSecond: [null, "SIGTERM"] },
  { name: `a supervisor that is PID 1${asRoot}`, around: AS_PID_1, endOfSecond: [143, null] },
].filter(({ around }) => around.length === 0 || !isSkipped);

describe.each(places)("$name", ({ around, endOfSecond }) => {
  test("upgrades its workers at SIGHUP, and exits with 0 at SIGTERM", async () => {
    const { service, pid } = await start(around);
    const before = pid();
    process.kill(before, "SIGHUP");
    for (const worker of [0, 1]) await service.until("accepting", { generation: 1, worker });
    for (let n = 0; n < 2; n++) await service.until("exited", { generation: 0, outcome: "upgraded" });
    expect(await service.ask()).toMatch(/ 1$/);
    expect(pid()).toBe(before);
    process.kill(before, "SIGTERM");
    expect(await service.exited).toEqual([0, null]);
    await service.ended();
    expect(service.alive()).toEqual([]);
  });

  test("passes SIGUSR1, SIGUSR2 and SIGWINCH on to every worker, and does not start its inspector", async () => {
    const { service, pid } = await start(around);
    for (const name of ["SIGUSR1", "SIGUSR2", "SIGWINCH"] as const) {
      process.kill(pid(), name);
      for (const one of service.lines.filter(({ event }) => event === "accepting"))
        await service.until("signal", { name, pid: one.pid });
    }
    expect(service.noise).not.toContain("Debugger");
  });

  test("reaps what its workers leave behind", async () => {
    const { service, pid } = await start(around);
    for (let n = 0; n < 10; n++) expect(Number(await service.ask("/orphan"))).toBeGreaterThan(1);
    await expect.poll(() => childrenOf(pid()), { interval: 20 }).toHaveLength(2);
  });

  test("ends at once at a second SIGTERM, with its workers", async () => {
    const { service, pid } = await start(around);
    const supervisor = pid();
    const held = service.ask("/hold").catch(() => "cut off");
    await service.until("holding");
    process.kill(supervisor, "SIGTERM");
    await service.until("draining");
    await service.signalUntilExit(supervisor, "SIGTERM");
    expect(await service.exited).toEqual(endOfSecond);
    expect(await held).toBe("cut off");
    await service.ended();
    expect(service.alive()).toEqual([]);
  });

  test("exits with 1 if every worker has failed", async () => {
    const words = ["run", "--workers", "2", "--restarts", "0", "--", "/bin/false"];
    const service = Service.start("", { command: [...around, process.execPath, HANDOVER, ...words] });
    expect(await service.exited).toEqual([1, null]);
    expect(service.noise).toContain("every worker has failed");
  });
});

/** Two workers, which accept. */
async function start(around: string[]): Promise<{ service: Service; pid: () => number }> {
  const settings = { port: await freePort(), drainTimeout: 60_000 };
  const words = ["run", "--workers", "2", "--probation", "100", "--", PROGRAM, JSON.stringify(settings)];
  const service = Service.start("", { command: [...around, process.execPath, HANDOVER, ...words] });
  for (const worker of [0, 1]) await service.until("accepting", { worker });
  const [started] = service.children();
  // In this namespace of PIDs.
  return { service, pid: () => (around.length === 0 ? service.pid : started!) };
}
