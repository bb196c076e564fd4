import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Load } from "../support/load.js";
import { obstacle, requireInCi, Systemd, untested } from "../support/systemd.js";
import { socket, supervised, type Plan } from "./units.js";

requireInCi();

describe.skipIf(obstacle !== undefined)(`a supervisor under systemd${untested}`, () => {
  let systemd: Systemd;
  let port = 9500;
  beforeAll(async () => (systemd = await Systemd.boot()));
  afterAll(async () => systemd?.halt());

  async function install(
    name: string,
    directives: Record<string, string | undefined> = {},
    plan: Plan = {},
  ): Promise<number> {
    await systemd.install(supervised(name, ++port, directives, plan));
    return port;
  }

  const main = async (name: string): Promise<string> => (await systemd.show(name))["MainPID"]!;
  const get = async (on: number): Promise<string> =>
    (await systemd.run("curl", "--silent", "--max-time", "15", `http://127.0.0.1:${on}/`)).stdout;

  async function isClean(name: string): Promise<void> {
    await systemd.manage("stop", name);
    expect(await systemd.show(name)).toMatchObject({ ActiveState: "inactive", Result: "success" });
  }

  test("a service of workers is started when all accept, keeps its main process over reloads, and loses no request", async () => {
    const name = "workers";
    const on = await install(name, { NotifyAccess: "main" });
    await systemd.manage("start", name);
    const pid = await main(name);
    await systemd.until(name, { StatusText: "generation 0: 2 of 2 workers accept, 0 connections" });
    const load = await Load.on(systemd, on);
    await load.answered(50);
    for (let n = 1; n <= 3; n++) {
      await systemd.manage("reload", name);
      await systemd.until(name, { SubState: "running", StatusText: new RegExp(`^generation ${n}: 2 of 2 `) });
      await load.answered(50);
      expect(await main(name)).toBe(pid);
    }
    const { failures, pids } = await load.stop();
    expect(failures).toEqual({});
    expect(Object.keys(pids)).toHaveLength(8);
    expect(Object.keys(pids)).not.toContain(pid);
    await isClean(name);
    expect(systemd.printed(name)).not.toMatch(/warning|error/i);
  });

  test("a reload fails if the new workers do, and systemd says why", async () => {
    const name = "worse";
    const on = await install(name);
    await systemd.manage("start", name);
    await systemd.install(supervised(name, on, {}, { initialize: "process.exit(3);" }));
    expect((await systemd.systemctl("reload", name)).code).not.toBe(0);
    await systemd.until(name, {
      ActiveState: "active",
      SubState: "running",
      StatusText: /^upgrade failed: .*code 3.*; generation 0: 2 of 2 workers accept/,
    });
    await isClean(name);
  });

  test("a signal to the main process upgrades the workers", async () => {
    const name = "signalled";
    await install(name);
    await systemd.manage("start", name);
    const pid = await main(name);
    await systemd.manage("kill", "--kill-whom=main", "--signal=HUP", name);
    await systemd.until(name, { SubState: "running", StatusText: /^generation 1: 2 of 2 workers accept/ });
    expect(await main(name)).toBe(pid);
    await isClean(name);
  });

  test("listeners in the descriptor store serve the clients in their queues after a crash of the whole service", async () => {
    const name = "stored";
    const on = await install(name, { FileDescriptorStoreMax: "8" });
    await systemd.manage("start", name);
    const pid = await main(name);
    await systemd.until(name, { NFileDescriptorStore: "2" });
    const load = await Load.on(systemd, on);
    await load.answered(50);
    await systemd.manage("kill", "--signal=KILL", name);
    await systemd.until(name, { SubState: "running", MainPID: new RegExp(`^(?!${pid}$)[1-9]`) });
    await load.answered(100);
    // Those that the dead workers held are lost; no client is refused.
    expect(Object.keys((await load.stop()).failures)).toEqual(["ECONNRESET"]);
    await systemd.until(name, { NFileDescriptorStore: "2" });
    // The members are those of before, and both of them are served.
    const answers = new Set<string>();
    for (let n = 0; n < 200 && answers.size < 2; n++) answers.add(await get(on));
    expect(answers.size).toBe(2);
    const again = await Load.on(systemd, on);
    await again.answered(20);
    await systemd.manage("reload", name);
    await again.answered(20);
    await systemd.manage("restart", name);
    await again.answered(20);
    expect((await again.stop()).failures).toEqual({});
    await isClean(name);
  });

  test("a socket unit's listener is shared by all workers", async () => {
    const name = "passed";
    const on = await install(name);
    await systemd.install(socket(name, { ListenStream: `127.0.0.1:${on}` }));
    await systemd.manage("start", `${name}.socket`);
    // The first client is what starts the service, and waits until it is ready.
    expect(await get(on)).toMatch(/^\d+$/);
    const load = await Load.on(systemd, on);
    await load.answered(50);
    await systemd.manage("reload", name);
    await load.answered(50);
    await systemd.manage("restart", name);
    await load.answered(50);
    expect((await load.stop()).failures).toEqual({});
    await systemd.manage("stop", `${name}.socket`);
    await isClean(name);
  });

  test("a supervisor upgrades itself: it stays the main process, and keeps its listeners, the watchdog and the store", async () => {
    const name = "itself";
    const on = await install(name, { FileDescriptorStoreMax: "8", WatchdogSec: "4" });
    await systemd.manage("start", name);
    const pid = await main(name);
    const load = await Load.on(systemd, on);
    await load.answered(50);
    const words = [
      "/srv/handover/bin/handover.js",
      "upgrade",
      "--supervisor",
      "--pid-file",
      `/run/${name}/pid`,
    ];
    for (let n = 1; n <= 2; n++) {
      expect(await systemd.run(process.execPath, ...words)).toMatchObject({ code: 0 });
      await load.answered(50);
      await systemd.manage("reload", name);
      await systemd.until(name, { SubState: "running", StatusText: new RegExp(`^generation ${n}: 2 of 2 `) });
      await load.answered(50);
      expect(await main(name)).toBe(pid);
    }
    expect((await load.stop()).failures).toEqual({});
    await systemd.until(name, { NFileDescriptorStore: "2" });
    await systemd.manage("kill", "--signal=KILL", name);
    await systemd.until(name, { SubState: "running", MainPID: new RegExp(`^(?!${pid}$)[1-9]`) });
    expect(await get(on)).toMatch(/^\d+$/);
    // Also with the sockets of the store, whose variables name the process.
    expect(await systemd.run(process.execPath, ...words)).toMatchObject({ code: 0 });
    expect(await get(on)).toMatch(/^\d+$/);
    await systemd.until(name, { NFileDescriptorStore: "2" });
    await isClean(name);
  });

  test("a supervisor that a socket unit has started upgrades itself", async () => {
    const name = "passed-itself";
    const on = await install(name);
    await systemd.install(socket(name, { ListenStream: `127.0.0.1:${on}` }));
    await systemd.manage("start", `${name}.socket`);
    expect(await get(on)).toMatch(/^\d+$/);
    const pid = await main(name);
    const load = await Load.on(systemd, on);
    await load.answered(50);
    const words = [
      "/srv/handover/bin/handover.js",
      "upgrade",
      "--supervisor",
      "--pid-file",
      `/run/${name}/pid`,
    ];
    expect(await systemd.run(process.execPath, ...words)).toMatchObject({ code: 0 });
    await load.answered(50);
    await systemd.manage("reload", name);
    await load.answered(50);
    expect(await main(name)).toBe(pid);
    expect((await load.stop()).failures).toEqual({});
    await systemd.manage("stop", `${name}.socket`);
    await isClean(name);
  });

  test("the watchdog is fed while workers serve, and ends a supervisor that hangs", async () => {
    const name = "watched";
    await install(name, { WatchdogSec: "2", Restart: "no" });
    await systemd.manage("start", name);
    const pid = await main(name);
    for (let n = 1; n <= 2; n++) {
      await systemd.manage("reload", name);
      await systemd.until(name, { StatusText: new RegExp(`^generation ${n}: `) });
    }
    expect(await main(name)).toBe(pid);
    await systemd.manage("kill", "--kill-whom=main", "--signal=STOP", name);
    await systemd.until(name, { ActiveState: "failed", Result: "watchdog" });
  });

  test("the watchdog is not fed while no worker serves", async () => {
    const name = "hung";
    await install(name, { WatchdogSec: "2", Restart: "no" });
    await systemd.manage("start", name);
    const handover = "/srv/handover/bin/handover.js";
    const words = [handover, "status", "--pid-file", `/run/${name}/pid`, "--json"];
    const { stdout } = await systemd.run(process.execPath, ...words);
    const { workers } = JSON.parse(stdout) as { workers: { pid: number }[] };
    const [first, second] = workers.map(({ pid }) => String(pid)) as [string, string];
    await systemd.run("kill", "-STOP", first, second);
    const ended = await systemd.until(name, { ActiveState: "failed" });
    expect(ended["Result"]).toBe("watchdog");
  });
});
