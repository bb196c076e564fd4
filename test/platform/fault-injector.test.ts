import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { FaultInjector, type FaultyFunction } from "../support/fault-injector.js";
import { Service, temporaryDirectory } from "../support/service.js";

const functions: FaultyFunction[] = [
  "addchdir",
  "bind",
  "dup",
  "fork",
  "getsockopt",
  "link",
  "listen",
  "memfd_create",
  "open",
  "pidfd_open",
  "pidfd_send_signal",
  "posix_spawn",
  "recvmsg",
  "rename",
  "sendmsg",
  "setsockopt",
  "shutdown",
  "socketpair",
  "unlink",
];
const { ENOBUFS } = constants.errno;

describe("the fault injector", () => {
  it.each(functions)("makes chosen calls of %s fail, in one of two processes", async (name) => {
    const injector = new FaultInjector();
    const first = await Caller.start(name, injector.env);
    const second = await Caller.start(name, injector.env);
    injector.arm(
      { process: 1, function: name, calls: 2, error: "ENOBUFS" },
      { process: 1, function: name, calls: [5, 7], error: "ENOBUFS" },
    );
    expect(await first.results()).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(await second.results()).toEqual([0, -ENOBUFS, 0, 0, -ENOBUFS, -ENOBUFS, -ENOBUFS, 0, 0, 0]);
    expect(injector.counts(0)![name]).toMatchObject({ failed: 0 });
    expect(injector.counts(1)![name]).toMatchObject({ failed: 4 });
    expect(injector.counts(2)).toBeUndefined();
  });

  it("does not count what was called before it was armed", async () => {
    const injector = new FaultInjector();
    const caller = await Caller.start("memfd_create", injector.env);
    expect(await caller.results()).toEqual(Array(10).fill(0));
    expect(injector.counts(0)!.memfd_create).toEqual({ calls: 0, failed: 0 });
  });

  it("does nothing without its configuration", async () => {
    const injector = new FaultInjector();
    injector.arm({ process: 0, function: "memfd_create", calls: 1, error: "ENOBUFS" });
    const { FAULT_DIRECTORY: _, ...env } = injector.env;
    const caller = await Caller.start("memfd_create", env);
    expect(await caller.results()).toEqual(Array(10).fill(0));
    expect(injector.counts(0)).toBeUndefined();
  });

  it("leaves programs alone that are not the one that is named", async () => {
    const injector = new FaultInjector();
    injector.arm({ process: 0, function: "memfd_create", calls: 1, error: "ENOBUFS" });
    const caller = await Caller.start("memfd_create", { ...injector.env, FAULT_PROGRAM: "/bin/sh" });
    expect(await caller.results()).toEqual(Array(10).fill(0));
    expect(injector.counts(0)).toBeUndefined();
  });

  it("reaches the successor of an upgrade, and counts what an upgrade calls", async () => {
    const injector = new FaultInjector();
    const service = Service.start("http.js", { env: injector.env });
    await service.until("accepting");
    injector.arm();
    await service.ask();
    await service.replace();
    const [old, young] = [injector.counts(0)!, injector.counts(1)!];
    expect([old.socketpair.calls, young.socketpair.calls]).toEqual([1, 0]);
    for (const count of [old.accept4, old.sendmsg, old.recvmsg, young.sendmsg, young.recvmsg, young.open]) {
      expect(count.calls).toBeGreaterThan(0);
    }
    expect([...Object.values(old), ...Object.values(young)].every(({ failed }) => failed === 0)).toBe(true);
    await service.stop();
  });

  it("makes an upgrade fail in the process that is chosen", async () => {
    const injector = new FaultInjector();
    const service = Service.start("http.js", { env: injector.env });
    await service.until("accepting");
    injector.arm({ process: 0, function: "socketpair", calls: 1, error: "ENFILE" });
    const failed = await service.upgrade("failed", { pid: service.pid });
    expect(failed["message"]).toContain("ENFILE");
    expect(injector.counts(0)!.socketpair).toEqual({ calls: 1, failed: 1 });
    expect(injector.counts(1)).toBeUndefined();
    await service.stop();
  });
});

/** A process that waits for its order to call a function. */
class Caller {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;

  static async start(name: FaultyFunction, env: NodeJS.ProcessEnv): Promise<Caller> {
    const path = fileURLToPath(new URL("../fixtures/native/calls.js", import.meta.url));
    const directory = join(temporaryDirectory(), "own");
    mkdirSync(directory);
    const child = spawn(process.execPath, [path, name, directory], {
      env: { ...process.env, ...env },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const ended = once(child, "close");
    onTestFinished(async () => {
      child.kill("SIGKILL");
      await ended;
    });
    child.stdout.setEncoding("utf8");
    const caller = new Caller(child);
    await once(child.stdout, "data");
    return caller;
  }

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child;
  }

  async results(): Promise<number[]> {
    this.#child.stdin.end();
    const [line] = (await once(this.#child.stdout, "data")) as [string];
    return JSON.parse(line) as number[];
  }
}
