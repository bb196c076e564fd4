import { readdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { Status } from "../../dist/control/protocol.js";
import { Crowd } from "../support/crowd.js";
import { freePort } from "../support/port.js";
import { handover, type Run } from "../support/program.js";
import { asRoot, isSkipped } from "../support/root.js";
import { childrenOf, descriptorCount, Service, temporaryDirectory } from "../support/service.js";

const HANDOVER = fileURLToPath(new URL("../../bin/handover.js", import.meta.url));
const BROKEN = fileURLToPath(new URL("../fixtures/supervisor/cannot-go-on.cjs", import.meta.url));
const PROGRAM = fileURLToPath(new URL("../fixtures/supervisor/tcp-and-udp.js", import.meta.url));
const AS_PID_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

const places = [
  { name: "a supervisor", around: [] },
  { name: `a supervisor that is PID 1${asRoot}`, around: AS_PID_1 },
].filter(({ around }) => around.length === 0 || !isSkipped);

describe.each(places)("$name", ({ around }) => {
  test("upgrades itself five times under load, and keeps its PID, its workers and its descriptors", async () => {
    const one = await Supervised.start(around);
    const pid = one.pid;
    const workers = await one.workers();
    const crowd = new Crowd(one.service);
    const before = descriptorCount(pid);
    for (let n = 0; n < 5; n++) {
      expect(await one.upgradeSupervisor()).toMatchObject({ code: 0, stderr: "" });
      await crowd.answered(10);
    }
    await crowd.leave();
    expect(crowd.failures).toEqual([]);
    // One is that of a client which has just left.
    await expect.poll(() => descriptorCount(pid), { interval: 20 }).toBeLessThanOrEqual(before);
    expect(await one.status()).toMatchObject({ state: "ready", replacement: { number: 5 } });
    expect(await one.workers()).toEqual(workers);
    expect(childrenOf(pid)).toHaveLength(2);
    // It can do all that it could before.
    expect(await one.run("upgrade")).toMatchObject({ code: 0 });
    expect(await one.status()).toMatchObject({ generation: 1, pid: around.length === 0 ? pid : 1 });
    process.kill(pid, "SIGTERM");
    expect(await one.service.exited).toEqual([0, null]);
    await one.service.ended();
  });
});

test("a worker that dies while its supervisor upgrades itself is started again", async () => {
  const one = await Supervised.start();
  const { pid: first } = await one.service.until("accepting");
  const upgrading = one.upgradeSupervisor();
  process.kill(first, "SIGKILL");
  expect(await upgrading).toMatchObject({ code: 0 });
  await expect
    .poll(async () => (await one.status()).workers, { interval: 50 })
    .toMatchObject([{ state: "ready" }, { state: "ready" }]);
  expect(await one.workers()).not.toContain(first);
  expect((await one.status()).workers!.map(({ restarts }) => restarts)).toContain(1);
});

test("workers that drain go on draining under the next supervisor", async () => {
  const one = await Supervised.start();
  const held = connect(one.service.port, "127.0.0.1");
  held.write("GET /hold HTTP/1.1\r\nHost: here\r\n\r\n");
  const { pid, worker } = await one.service.until("holding");
  expect(await one.run("upgrade")).toMatchObject({ code: 0 });
  for (const number of [1, 2]) {
    expect(await one.upgradeSupervisor()).toMatchObject({ code: 0, stderr: "" });
    const { replacement, predecessors } = await one.status();
    expect(replacement).toMatchObject({ number });
    expect(predecessors.map((old) => old.pid)).toContain(pid);
  }
  held.destroy();
  expect(await one.service.until("exits", { worker: worker as number })).toMatchObject({ pid, code: 0 });
  await expect.poll(async () => (await one.status()).predecessors, { interval: 50 }).toEqual([]);
  expect(await one.run("upgrade")).toMatchObject({ code: 0 });
  expect(await one.run("stop")).toMatchObject({ code: 0 });
  expect(await one.service.exited).toEqual([0, null]);
});

test("a next version that does not start changes nothing, and the error says why", async () => {
  const one = await Supervised.start([], { asRelease: true });
  const workers = await one.workers();
  one.release("console.error('the release is incomplete'); process.exit(3);");
  const { code, stderr } = await one.upgradeSupervisor();
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr:
      "handover: cannot upgrade the supervisor: the new version exited with code 3: the release is incomplete\n",
  });
  expect(await one.workers()).toEqual(workers);
  expect(await one.run("upgrade")).toMatchObject({ code: 0 });
});

test("a next version that cannot go on after all gives the service back, once it has replaced the former one", async () => {
  const one = await Supervised.start([], { asRelease: true });
  const workers = await one.workers();
  const crowd = new Crowd(one.service);
  one.release(`require(${JSON.stringify(BROKEN)});`);
  const { code, stderr } = await one.upgradeSupervisor();
  expect(code).toBe(1);
  expect(stderr).toMatch(/^handover: the former supervisor goes on: .*the disk is broken\n$/);
  await crowd.answered(10);
  await crowd.leave();
  expect(crowd.failures).toEqual([]);
  expect(await one.workers()).toEqual(workers);
  expect(await one.status()).toMatchObject({ state: "ready", pid: one.pid });
  // Its words lead to the next release again.
  one.release(`require(${JSON.stringify(HANDOVER)});`);
  expect(await one.upgradeSupervisor()).toMatchObject({ code: 0, stderr: "" });
  expect(await one.workers()).toEqual(workers);
});

test("a supervisor that cannot execute the next version serves on, and the error says why", async () => {
  const one = await Supervised.start([], { asRelease: true });
  const workers = await one.workers();
  // It goes once the next version has answered that it can go on.
  const leave = `process.once("exit", () => require("node:fs").unlinkSync(${JSON.stringify(one.node)}));`;
  one.release(`${leave} require(${JSON.stringify(HANDOVER)});`);
  const { code, stderr } = await one.upgradeSupervisor();
  expect(code).toBe(1);
  expect(stderr).toBe(`handover: the former supervisor goes on: cannot execute ${one.node}: ENOENT\n`);
  expect(await one.workers()).toEqual(workers);
  symlinkSync(process.execPath, one.node);
  one.release(`require(${JSON.stringify(HANDOVER)});`);
  expect(await one.run("upgrade")).toMatchObject({ code: 0 });
  expect(await one.upgradeSupervisor()).toMatchObject({ code: 0, stderr: "" });
});

test("a supervisor is not upgraded while its workers are, and a server never", async () => {
  const one = await Supervised.start([], {}, "--probation", "60s");
  process.kill(one.pid, "SIGHUP");
  await one.service.until("accepting", { generation: 1 });
  expect(await one.upgradeSupervisor()).toMatchObject({
    code: 1,
    stderr: "handover: cannot upgrade the supervisor: an upgrade is in progress\n",
  });
  const server = Service.start("http.js");
  await server.until("accepting");
  const { code, stderr } = await handover("upgrade", server.pid, "--supervisor");
  expect(code).toBe(1);
  expect(stderr).toContain("upgrade --supervisor");
});

/** `handover run` with two workers, which accept. */
class Supervised {
  readonly service: Service;
  readonly #around: readonly string[];
  readonly #directory = temporaryDirectory();

  static async start(
    around: readonly string[] = [],
    { asRelease = false } = {},
    ...flags: string[]
  ): Promise<Supervised> {
    const one = new Supervised(around, await freePort(), asRelease, flags);
    for (const worker of [0, 1]) await one.service.until("accepting", { worker });
    return one;
  }

  private constructor(around: readonly string[], port: number, asRelease: boolean, flags: string[]) {
    this.#around = around;
    if (asRelease) {
      symlinkSync(process.execPath, this.node);
      this.release(`require(${JSON.stringify(HANDOVER)});`);
    }
    const file = asRelease ? join(this.#directory, "current") : HANDOVER;
    const own = ["--workers", "2", "--pid-file", this.#pidFile, "--probation", "100"];
    const program = [PROGRAM, JSON.stringify({ port, drainTimeout: 60_000, exitTimeout: 5_000 })];
    const words = [asRelease ? this.node : process.execPath, file, "run", ...own, ...flags, "--", ...program];
    this.service = Service.start("", { command: [...around, ...words] });
  }

  /** Of a release: it is started by this name. */
  get node(): string {
    return join(this.#directory, "node");
  }

  get #pidFile(): string {
    return join(this.#directory, "app.pid");
  }

  /** Of the supervisor, in this namespace. */
  get pid(): number {
    return this.#around.length === 0 ? this.service.pid : this.service.children()[0]!;
  }

  /** The next release of the program handover. */
  release(text: string): void {
    const file = join(this.#directory, `release-${readdirSync(this.#directory).length}.cjs`);
    writeFileSync(file, text);
    symlinkSync(file, join(this.#directory, "next"));
    renameSync(join(this.#directory, "next"), join(this.#directory, "current"));
  }

  async run(...words: string[]): Promise<Run> {
    return handover(...words, "--control", `${this.#pidFile}.sock`);
  }

  async upgradeSupervisor(): Promise<Run> {
    return this.run("upgrade", "--supervisor");
  }

  async status(): Promise<Status> {
    return JSON.parse((await this.run("status", "--json")).stdout) as Status;
  }

  /** Their PIDs. */
  async workers(): Promise<(number | undefined)[]> {
    return (await this.status()).workers!.map(({ pid }) => pid);
  }
}
