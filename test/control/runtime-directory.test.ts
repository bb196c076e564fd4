import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { ControlClient } from "../../dist/control/client.js";
import { connectToPid } from "../../dist/control/discover.js";
import { native } from "../../dist/platform/native.js";
import { startHandover, type Run } from "../support/program.js";
import { asRoot, isSkipped } from "../support/root.js";
import { brief, Service, temporaryDirectory } from "../support/service.js";

describe("a service without a PID file", () => {
  test("has its control socket in the user's runtime directory, over upgrades and until it stops", async () => {
    const runtime = temporaryDirectory();
    const service = await start(runtime, brief);
    const [path] = socketsIn(runtime);
    expect(socketsIn(runtime)).toEqual([path]);
    expect([mode(join(runtime, "handover")), mode(path!)]).toEqual([0o700, 0o600]);
    await service.replace();
    const { pid } = await service.replace();
    expect((await ControlClient.connect(path!)).pid).toBe(pid);
    expect((await connectToPid(pid)).path).toBe(path);
    await service.stop();
    expect(socketsIn(runtime)).toEqual([]);
  });

  test("has another control socket than a copy of the same program", async () => {
    const runtime = temporaryDirectory();
    const services = await Promise.all([start(runtime), start(runtime)]);
    const answering = await Promise.all(socketsIn(runtime).map((path) => ControlClient.connect(path)));
    expect(new Set(answering.map(({ pid }) => pid))).toEqual(new Set(services.map(({ pid }) => pid)));
  });

  test("keeps its control socket if its successor dies on probation", async () => {
    const runtime = temporaryDirectory();
    const service = await start(runtime, { fault: "die", probation: 60_000 }, "faulty-successor.js");
    const [path] = socketsIn(runtime);
    await service.upgrade("rollback");
    expect((await ControlClient.connect(path!)).pid).toBe(service.pid);
    expect(socketsIn(runtime)).toEqual([path]);
  });

  test("has no control socket if the option controlSocket is false", async () => {
    const runtime = temporaryDirectory();
    await start(runtime, { controlSocket: false });
    expect(existsSync(join(runtime, "handover"))).toBe(false);
  });
});

describe("the successor of a service without a PID file", () => {
  test("has its control socket beside its PID file, if it has one", async () => {
    const [runtime, pidFile] = [temporaryDirectory(), join(temporaryDirectory(), "app.pid")];
    const service = await start(runtime, { ...brief, spawn: { args: command({ ...brief, pidFile }) } });
    const { pid } = await service.replace();
    expect(socketsIn(runtime)).toEqual([]);
    expect((await ControlClient.connect(`${pidFile}.sock`)).pid).toBe(pid);
  });

  test("has its control socket in the runtime directory, if its predecessor had a PID file", async () => {
    const [runtime, pidFile] = [temporaryDirectory(), join(temporaryDirectory(), "app.pid")];
    const service = await start(runtime, { ...brief, pidFile, spawn: { args: command(brief) } });
    expect(socketsIn(runtime)).toEqual([]);
    const { pid } = await service.replace();
    expect(existsSync(`${pidFile}.sock`)).toBe(false);
    expect((await ControlClient.connect(socketsIn(runtime)[0]!)).pid).toBe(pid);
  });

  test("removes the control socket, if it is to have none", async () => {
    const runtime = temporaryDirectory();
    const service = await start(runtime, {
      ...brief,
      spawn: { args: command({ ...brief, controlSocket: false }) },
    });
    await service.replace();
    expect(socketsIn(runtime)).toEqual([]);
  });

  test("keeps the control socket, if its environment has another runtime directory", async () => {
    const [runtime, other] = [temporaryDirectory(), temporaryDirectory()];
    const env = { ...process.env, XDG_RUNTIME_DIR: other };
    const service = await start(runtime, { ...brief, spawn: { env } });
    const { pid } = await service.replace();
    expect((await ControlClient.connect(socketsIn(runtime)[0]!)).pid).toBe(pid);
    expect(existsSync(join(other, "handover"))).toBe(false);
  });

  test("binds a control socket again, if the runtime directory was removed", async () => {
    const runtime = temporaryDirectory();
    const service = await start(runtime, brief);
    rmSync(join(runtime, "handover"), { recursive: true });
    const { pid } = await service.replace();
    expect((await ControlClient.connect(socketsIn(runtime)[0]!)).pid).toBe(pid);
    await service.stop();
    expect(socketsIn(runtime)).toEqual([]);
    expect(service.noise).toBe("");
  });
});

describe("the control socket of a process that was killed", () => {
  test.each([
    ["the next start", start],
    ["handover list", list],
  ])("is removed by %s", async (_, clean) => {
    const runtime = temporaryDirectory();
    const killed = await start(runtime);
    const [path] = socketsIn(runtime);
    killed.killAll();
    await killed.ended();
    expect(socketsIn(runtime)).toEqual([path]);
    await clean(runtime);
    await expect.poll(() => socketsIn(runtime)).not.toContain(path);
  });

  test("is told from one on which its process does not listen yet, and from foreign files", async () => {
    const runtime = temporaryDirectory();
    mkdirSync(join(runtime, "handover"), { mode: 0o700 });
    const path = join(runtime, "handover", "0123456789abcdef.sock");
    const fd = native().bindUnix(path, 0o600);
    onTestFinished(() => void native().close(fd));
    const foreign = join(runtime, "handover", "mine.sock");
    const other = native().bindUnix(foreign, 0o600);
    native().close(other);
    await list(runtime);
    await start(runtime);
    expect(socketsIn(runtime)).toEqual(expect.arrayContaining([path, foreign]));
  });
});

describe("a runtime directory", () => {
  test.each([
    [
      "that others may enter",
      (path: string) => chmodSync(path, 0o711),
      `it belongs to uid ${process.getuid?.()} and has mode 711, and must be this user's with mode 700`,
    ],
    ["that is a link", replaceBy((path) => symlinkSync(temporaryDirectory(), path)), "it is not a directory"],
    ["that is a file", replaceBy((path) => writeFileSync(path, "")), "it is not a directory"],
  ])("%s is refused: the service has no control socket, and handover list fails", async (_, spoil, why) => {
    const message = `cannot use IT for control sockets: ${why}`;
    expect(await useSpoilt(spoil)).toEqual([message, `handover: ${message}`]);
  });

  // Only root can give a directory away.
  test.skipIf(isSkipped)(
    `that is another user's is refused: the service has no control socket, and handover list fails${asRoot}`,
    async () => {
      const why = `it belongs to uid ${NOBODY} and has mode 700, and must be this user's with mode 700`;
      const message = `cannot use IT for control sockets: ${why}`;
      expect(await useSpoilt((path) => chownSync(path, NOBODY, NOBODY))).toEqual([
        message,
        `handover: ${message}`,
      ]);
    },
  );

  test.each([
    ["cannot be made", () => `/proc/${process.pid}`],
    ["has too long a path", () => makeLong(temporaryDirectory())],
  ])("that %s leaves the service without a control socket", async (_, make) => {
    const runtime = make();
    const service = await start(runtime);
    await expect(connectToPid(service.pid)).rejects.toThrow(
      /cannot find a control socket .* runtime directory/,
    );
    await service.stop();
    expect(service.noise).toBe("");
    expect(await list(runtime)).toMatchObject({ code: 0, stderr: "" });
  });

  // Only root can be another user.
  test.skipIf(isSkipped)(`of another user is not used${asRoot}`, async () => {
    const runtime = temporaryDirectory();
    chmodSync(runtime, 0o777);
    const program = `import("${fileURLToPath(new URL("../../dist/control/runtime-directory.js", import.meta.url))}").then((m) => console.log(m.runtimeDirectory()))`;
    const directoryFor = (options: object): string =>
      execFileSync(process.execPath, ["--eval", program], { encoding: "utf8", cwd: "/", ...options }).trim();
    chownSync(runtime, NOBODY, NOBODY);
    expect(directoryFor({ env: { XDG_RUNTIME_DIR: runtime } })).toBe("/run/handover");
    chownSync(runtime, 0, 0);
    expect(directoryFor({ env: { XDG_RUNTIME_DIR: runtime } })).toBe(join(runtime, "handover"));
  });
});

const NOBODY = 65_534;

async function start(runtime: string, settings: object = {}, fixture = "http.js"): Promise<Service> {
  const service = Service.start(fixture, { settings, env: { XDG_RUNTIME_DIR: runtime } });
  await service.until("accepting");
  return service;
}

function list(runtime: string): Promise<Run> {
  return startHandover(["list"], { XDG_RUNTIME_DIR: runtime }).ended;
}

/** The words after `node` that start the fixture with these settings. */
function command(settings: object): string[] {
  return [fileURLToPath(new URL("../fixtures/http.js", import.meta.url)), JSON.stringify(settings)];
}

function socketsIn(runtime: string): string[] {
  const directory = join(runtime, "handover");
  return existsSync(directory) ? readdirSync(directory).map((name) => join(directory, name)) : [];
}

function mode(path: string): number {
  return statSync(path).mode & 0o777;
}

function replaceBy(make: (path: string) => void): (path: string) => void {
  return (path) => {
    rmSync(path, { recursive: true });
    make(path);
    onTestFinished(() => unlinkSync(path));
  };
}

/** Longer than the path of a socket may be. */
function makeLong(directory: string): string {
  const path = join(directory, "x".repeat(100));
  mkdirSync(path);
  return path;
}

/** How a service that is started with this directory has warned, and what `handover list` says. */
async function useSpoilt(spoil: (path: string) => void): Promise<string[]> {
  const runtime = temporaryDirectory();
  const path = join(runtime, "handover");
  mkdirSync(path, { mode: 0o700 });
  spoil(path);
  const service = await start(runtime);
  const warning = await service.untilNoise(/(?<=\[HANDOVER_CONTROL\] Warning: ).*/);
  const { code, stderr } = await list(runtime);
  expect(code).toBe(1);
  return [warning, stderr].map((text) => text.replaceAll(path, "IT").trim());
}
