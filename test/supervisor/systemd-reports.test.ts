import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { readStoreName } from "../../dist/systemd/store.js";
import { handover } from "../support/program.js";
import { Manager } from "../support/manager.js";
import { temporaryDirectory } from "../support/service.js";
import { Supervised, type SupervisedOptions } from "../support/supervised.js";

let address: string;
let manager: Manager;

beforeEach(async () => {
  address = join(temporaryDirectory(), "notify");
  manager = await Manager.listen(address);
});

async function start(fixture = "http.js", options: SupervisedOptions = {}): Promise<Supervised> {
  return Supervised.start(fixture, { ...options, environment: { NOTIFY_SOCKET: address } });
}

/** Everything but what a heart beats. */
const MILESTONES = ["READY", "RELOADING", "STOPPING", "MAINPID"];

describe("the messages of a supervisor to systemd", () => {
  test("the supervisor alone reports its start, an upgrade and its stop, and stays the main process", async () => {
    const supervised = await start();
    const { pid } = supervised;
    const before = process.hrtime.bigint() / 1_000n;
    await supervised.replace();
    await supervised.stop();
    await manager.until({ STOPPING: "1" });
    const said = ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"];
    expect(manager.said(...MILESTONES)).toEqual(said.map((one) => `${one}@${pid}`));
    expect(new Set(manager.told.map((one) => one.pid))).toEqual(new Set([pid]));
    const { message } = await manager.until({ RELOADING: "1" });
    expect(BigInt(message["MONOTONIC_USEC"]!)).toBeGreaterThanOrEqual(before);
    const statuses = manager.told.flatMap((one) => one.message["STATUS"] ?? []);
    expect(statuses[0]).toBe("generation 0 initializes: 0 of 2 workers accept");
    expect(statuses).toContain("generation 0: 2 of 2 workers accept, 0 connections");
    expect(statuses).toContain("generation 1: 2 of 2 workers accept, 0 connections");
    expect(statuses.at(-1)).toBe("stopping, 0 connections");
  });

  test("the supervisor asks systemd for time while workers start, are upgraded and drain", async () => {
    const supervised = await start();
    await supervised.replace();
    await supervised.stop();
    const [first] = manager.told;
    const extends_ = expect.objectContaining({ EXTEND_TIMEOUT_USEC: "10000000" }) as object;
    expect(first!.message).toEqual(extends_);
    expect((await manager.until({ RELOADING: "1" })).message).toEqual(extends_);
    expect((await manager.until({ STOPPING: "1" })).message).toEqual(extends_);
    const ready = await manager.until({ READY: "1" });
    expect(ready.message).not.toHaveProperty("EXTEND_TIMEOUT_USEC");
  });

  test("the supervisor reports that an upgrade has failed, and why", async () => {
    const supervised = await start("faulty-successor.js", { settings: { fault: "exit" } });
    await expect(supervised.upgrade()).rejects.toMatchObject({ code: "ERR_CHILD_EXITED" });
    const reloading = manager.told.indexOf(await manager.until({ RELOADING: "1" }));
    const { message } = await manager.until({ READY: "1" }, reloading + 1);
    expect(message["STATUS"]).toMatch(/^upgrade failed: .*code 3.*; generation 0: 2 of 2 workers accept/);
  });

  test("workers that are staged are no reload", async () => {
    const supervised = await start();
    expect((await handover("stage", supervised.pid)).code).toBe(0);
    await supervised.stop();
    await manager.until({ STOPPING: "1" });
    expect(manager.said("RELOADING")).toEqual([]);
  });

  test("a worker knows neither the notification socket nor the watchdog", async () => {
    const supervised = await Supervised.start("http.js", {
      environment: { NOTIFY_SOCKET: address, WATCHDOG_USEC: "60000000" },
    });
    for (const pid of await supervised.pids()) {
      expect(readFileSync(`/proc/${pid}/environ`, "utf8")).not.toMatch(/NOTIFY_SOCKET|WATCHDOG/);
    }
    await manager.until({ WATCHDOG: "1" });
  });

  test("the watchdog is fed while one worker serves, also if another one hangs", async () => {
    const supervised = await Supervised.start("http.js", {
      environment: { NOTIFY_SOCKET: address, WATCHDOG_USEC: "1000000" },
    });
    const [first = 0] = await supervised.pids();
    process.kill(first, "SIGSTOP");
    await supervised.eventually(({ workers: [one] = [] }) => one!.silence! > 1_000);
    const { pid } = await manager.until({ WATCHDOG: "1" }, manager.told.length);
    expect(pid).toBe(supervised.pid);
  });

  test("each member of a listener is stored with its index and its place in the kernel's order", async () => {
    await start();
    await manager.until({ READY: "1" });
    const stored = manager.told.filter(({ message }) => message["FDSTORE"] === "1");
    const names = stored.map(({ message }) => readStoreName(message["FDNAME"]!)!);
    expect(new Set(names.map(({ name }) => name)).size).toBe(1);
    expect(names.map(({ member }) => member?.position)).toEqual([0, 1]);
    expect(names.map(({ member }) => member?.index).toSorted((a, b) => a! - b!)).toEqual([0, 1]);
    expect(new Set(stored.flatMap(({ inodes }) => inodes)).size).toBe(2);
  });
});
