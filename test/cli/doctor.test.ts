import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { forAnotherUser, NOBODY } from "../support/another-user.js";
import { handover, jsonLines, startHandover, type Run } from "../support/program.js";
import { ControlGroup } from "../support/control-group.js";
import { freePort } from "../support/port.js";
import { asRoot, isSkipped } from "../support/root.js";
import { openDescriptors, Service, temporaryDirectory } from "../support/service.js";

const group = ControlGroup.open("memory");
afterAll(() => group.remove());

describe("handover doctor", () => {
  test("handover doctor prints its checks, and that an upgrade can be tried", async () => {
    const { service, pidFile } = await startService();
    const byPid = await handover("doctor", service.pid);
    expect(byPid).toMatchObject({ code: 0, stderr: "" });
    expect(byPid.stdout).toMatch(new RegExp(`^process ${service.pid}, generation 0\n`));
    expect(byPid.stdout).toMatch(/^ok +listeners +the next process inherits every listener$/m);
    expect(byPid.stdout).toMatch(/\n0 errors, \d+ warnings?, \d+ ok\n$/);
    const byFile = await handover("doctor", "--pid-file", pidFile, "--json");
    expect(byFile).toMatchObject({ code: 0, stderr: "" });
    expect(jsonLines(byFile)).toEqual([
      {
        answer: "examined",
        subject: `PID file ${pidFile}, process ${service.pid}, generation 0`,
        errors: 0,
        warnings: expect.any(Number) as number,
        findings: expect.arrayContaining([{ check: "state", severity: "ok", what: "it serves" }]) as unknown,
      },
    ]);
    expect(service.alive()).toEqual([service.pid]);
  });

  test("handover doctor without a process examines this machine and this project", async () => {
    const run = await handover("doctor", "--json");
    expect(run).toMatchObject({ code: 0, stderr: "" });
    const { subject, findings } = report(run);
    expect(subject).toMatch(/^this machine, in \//);
    expect(findings.map(({ check }) => check)).toEqual(
      expect.arrayContaining(["node", "addon", "package", "memory"]),
    );
  });

  test("handover doctor finds too few descriptors, and the upgrade does fail", async () => {
    const { service } = await startService();
    // For the connection of the command, and of one that looks for all services of the user, as other tests do.
    const limit = limitWithRoom(service.pid, 2);
    execFileSync("prlimit", [`--pid=${service.pid}`, `--nofile=${limit}:${limit}`]);
    expect(await problemsOf(service.pid)).toMatchObject([
      {
        check: "descriptors",
        severity: "error",
        what: expect.stringContaining(`of ${limit} descriptors are open`) as string,
      },
    ]);
    await expectFailure(service.pid);
  });

  test("handover doctor finds a deleted script, and the upgrade does fail", async () => {
    const { directory, service } = await startProject();
    rmSync(join(directory, "server.js"));
    expect(await problemsOf(service.pid)).toMatchObject([
      {
        check: "script",
        severity: "error",
        what: `the script ${directory}/server.js no longer exists`,
      },
    ]);
    await expectFailure(service.pid);
  });

  test("handover doctor finds a deleted directory, and the upgrade does fail", async () => {
    const { directory, service } = await startProject();
    renameSync(directory, `${directory}-old`);
    onTestFinished(() => rmSync(`${directory}-old`, { recursive: true, force: true }));
    const found = await problemsOf(service.pid);
    expect(found.filter(({ severity }) => severity === "error")).toMatchObject([
      {
        check: "directory",
        what: expect.stringContaining(`${directory}: there is no such directory`) as string,
      },
    ]);
    await expectFailure(service.pid);
  });

  test("handover doctor accepts a release that was switched behind a symlink", async () => {
    const { directory, service } = await startProject("current");
    mkdirSync(join(directory, "2"));
    fill(join(directory, "2"));
    symlinkSync("2", join(directory, "next"));
    renameSync(join(directory, "next"), join(directory, "current"));
    rmSync(join(directory, "1"), { recursive: true });
    const run = await handover("doctor", service.pid);
    expect(run.stdout).toMatch(
      /^ok +directory +the working directory was replaced: the next process starts in the new \/.*\/current$/m,
    );
    expect(run.code).toBe(0);
    expect(await handover("upgrade", service.pid)).toMatchObject({ code: 0 });
  });

  test("handover doctor finds a listener that handover does not manage, and the upgrade does fail", async () => {
    const port = await freePort();
    const { service } = await startService({ outside: port }, undefined, "unmanaged-listener.js");
    expect((await problemsOf(service.pid)).filter(({ severity }) => severity === "error")).toMatchObject([
      { check: "listeners", what: `tcp:127.0.0.1:${port} was opened without handover` },
    ]);
    await expectFailure(service.pid);
  });

  test("handover doctor finds another process at the same port", async () => {
    const { service } = await startService();
    const { address } = (await service.until("listening")) as unknown as { address: { port: number } };
    const other = createServer().listen(address.port, "127.0.0.2");
    onTestFinished(() => void other.close());
    await once(other, "listening");
    expect(await problemsOf(service.pid)).toContainEqual(
      expect.objectContaining({
        check: "ports",
        severity: "warning",
        what: `process ${process.pid} listens on tcp:127.0.0.2:${address.port}, too`,
      }),
    );
  });

  test("handover doctor finds a PID file whose process is gone", async () => {
    const { service, pidFile } = await startService();
    process.kill(service.pid, "SIGKILL");
    await service.ended();
    const run = await handover("doctor", "--pid-file", pidFile, "--json");
    expect(run.code).toBe(1);
    expect(report(run).findings.filter(({ severity }) => severity === "error")).toMatchObject([
      { check: "pid-file", what: `${pidFile} names process ${service.pid}, which has exited` },
    ]);
  });

  test("handover doctor finds a PID file that names another process", async () => {
    const { service, pidFile } = await startService();
    writeFileSync(pidFile, `${process.pid}\n`);
    for (const target of [["--pid-file", pidFile], [service.pid]]) {
      const found = report(await handover("doctor", ...target, "--json")).findings;
      expect(found.filter(({ severity }) => severity === "error")).toMatchObject([
        {
          check: "pid-file",
          what: `${pidFile} names process ${process.pid}, and process ${service.pid} serves`,
        },
      ]);
    }
  });

  test("handover doctor finds a process that does not answer", async () => {
    const { service } = await startService();
    process.kill(service.pid, "SIGSTOP");
    onTestFinished(() => void process.kill(service.pid, "SIGCONT"));
    const found = await problemsOf(service.pid);
    expect(found[0]).toMatchObject({ check: "control", severity: "error" });
  });

  test.skipIf(isSkipped)(
    `handover doctor does not take another process for one in a container${asRoot}`,
    async () => {
      const unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", process.execPath];
      const { pidFile } = await startService({}, unshare);
      const { code, stderr } = await handover("doctor", "--pid-file", pidFile);
      expect(stderr).toMatch(
        /process 1 is a different process here; if it runs in a container, run handover doctor inside it\n$/,
      );
      expect(code).toBe(1);
    },
  );

  test.skipIf(isSkipped)(`handover doctor finds a process that is PID 1${asRoot}`, async () => {
    const unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", process.execPath];
    const { service } = await startService({}, unshare);
    const pid = Number(service.alive().find((one) => one !== service.pid));
    const found = await problemsOf(pid);
    expect(found.map(({ check }) => check)).toContain("pid-1");
  });

  test.skipIf(isSkipped)(
    `handover doctor finds a directory in which the user cannot write${asRoot}`,
    async () => {
      const directory = temporaryDirectory();
      chmodSync(directory, 0o777);
      const pidFile = join(directory, "app.pid");
      const server = forAnotherUser().fixture("http.js", { pidFile, probation: 200 });
      const setpriv = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
      const service = Service.start("", { command: [...setpriv, ...server], cwd: "/" });
      await service.until("accepting");
      chmodSync(directory, 0o755);
      expect((await problemsOf(service.pid)).filter(({ severity }) => severity === "error")).toMatchObject([
        {
          check: "paths",
          what: expect.stringMatching(
            /^pidFile .* belongs to uid 0, has mode 755, and the process runs as uid 65534$/,
          ) as string,
        },
        { check: "paths", what: expect.stringMatching(/^controlSocket/) as string },
      ]);
      await expectFailure(service.pid);
    },
  );

  test("handover doctor warns of a PID file in a directory where others may write", async () => {
    const { service, pidFile } = await startService();
    chmodSync(dirname(pidFile), 0o1777);
    const what = expect.stringMatching(/^pidFile .*every user: .* has mode 1777$/) as string;
    expect(await problemsOf(service.pid)).toContainEqual(
      expect.objectContaining({ check: "paths", severity: "warning", what }),
    );
  });

  test.skipIf(group.isSkipped)(
    `handover doctor finds a control group without memory${group.why}`,
    async () => {
      const { service } = await startService();
      group.put(service.pid, 40 * 2 ** 20);
      const found = (await handover("doctor", service.pid)).stdout;
      expect(found).toMatch(/^error +memory +\d+ MiB of 40 MiB are left \(\/.*memory\./m);
    },
  );

  test("handover doctor finds that Node has no addon to load", async () => {
    const { directory } = await startProject();
    const installed = join(directory, "node_modules", "handover");
    rmSync(installed);
    mkdirSync(installed);
    copyFileSync("package.json", join(installed, "package.json"));
    const run = await startHandover(["doctor", "--json"], { PWD: directory }, directory).ended;
    expect(run.code).toBe(1);
    expect(report(run).findings[0]).toMatchObject({
      check: "addon",
      severity: "error",
      what: expect.stringMatching(/cannot load the addon of .*handover: .*handover.node/) as string,
    });
  });

  test("handover doctor finds the addon beside a bundled program", async () => {
    const { directory, service } = await startProject();
    const installed = join(directory, "node_modules", "handover");
    rmSync(installed);
    mkdirSync(installed);
    copyFileSync("package.json", join(installed, "package.json"));
    const addonProblem = expect.objectContaining({ check: "addon", severity: "error" }) as unknown;
    expect(await problemsOf(service.pid)).toContainEqual(addonProblem);
    copyFileSync("build/Release/handover.node", join(directory, "handover.node"));
    expect(await problemsOf(service.pid)).not.toContainEqual(addonProblem);
  });

  test.each([
    [["no such unit"], 2, /^handover: "no such unit" is neither a PID nor the name of a unit\n/],
    [["0"], 2, /^handover: "0" is neither a PID nor the name of a unit\n/],
    [["1", "--pid-file", "x"], 2, /^handover: name one process: by its unit, its PID or --pid-file\n/],
    [
      ["app.socket"],
      1,
      /^handover: cannot examine the unit app.socket: it is not a service; name the service/,
    ],
    [["2147483647"], 1, /^handover: there is no process 2147483647\n$/],
  ])("handover doctor refuses %j", async (args, code, message) => {
    const run = await handover("doctor", ...args);
    expect(run.stderr).toMatch(message);
    expect([run.code, run.stdout]).toEqual([code, ""]);
  });
});

describe("handover doctor UNIT, with the recorded output of a systemctl", () => {
  test("handover doctor UNIT examines the unit and its process", async () => {
    const { service, pidFile } = await startService();
    const run = await withSystemctl(
      recorded(
        { MainPID: service.pid, PIDFile: pidFile, TimeoutStopUSec: "10s", KillMode: "control-group" },
        `handover upgrade --pid-file ${pidFile}`,
      ),
      "doctor",
      "app",
      "--json",
    );
    const { subject, findings: found } = report(run);
    expect(subject).toBe(`unit app.service, process ${service.pid}, generation 0`);
    expect(found.filter(({ severity }) => severity !== "ok").map(({ check }) => check)).toEqual(
      expect.arrayContaining(["kill-mode", "timeout-stop"]),
    );
    expect(found.filter(({ severity }) => severity === "error")).toEqual([]);
    expect(run).toMatchObject({ code: 0, stderr: "" });
  });

  test.skipIf(isSkipped)(
    `handover doctor UNIT examines the unit alone for a user who may not examine its process${asRoot}`,
    async () => {
      const { service, pidFile } = await startService();
      const bin = join(temporaryDirectory(), "bin");
      installSystemctl(bin, recorded({ MainPID: service.pid, PIDFile: pidFile, Type: "oneshot" }, "upgrade"));
      chmodSync(dirname(bin), 0o755);
      const { root, node } = forAnotherUser();
      const program = [join(root, "bin/handover.js"), "doctor", "app", "--json"];
      const options = { env: { PATH: bin }, uid: NOBODY, gid: NOBODY, cwd: "/" };
      const child = spawn(node, program, { ...options, stdio: ["ignore", "pipe", "inherit"] });
      const [text] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
      const { findings: found } = JSON.parse(text) as Report;
      expect(found.filter(({ severity }) => severity === "error").map(({ check }) => check)).toEqual([
        "unit-type",
      ]);
      expect(found.find(({ check }) => check === "process")).toMatchObject({
        severity: "warning",
        what: `cannot examine process ${service.pid}: it belongs to another user; run this as that user or as root`,
      });
    },
  );

  test("handover doctor UNIT reads a path with a blank or a $ in it", async () => {
    const directory = join(temporaryDirectory(), "an odd $name");
    mkdirSync(directory);
    const { service, pidFile } = await startService({}, undefined, undefined, directory);
    const program = join(directory, "handover.js");
    writeFileSync(program, "");
    const written = `${program} upgrade --pid-file ${pidFile}`.replaceAll("$", "$$$$");
    const unit = recorded({ MainPID: service.pid, PIDFile: pidFile }, written);
    const { findings: found } = report(await withSystemctl(unit, "doctor", "app", "--json"));
    expect(found.filter(({ severity }) => severity === "error")).toEqual([]);
    expect(found).toContainEqual({
      check: "exec-reload",
      severity: "ok",
      what: `ExecReload=/bin/sh ${program} upgrade --pid-file ${pidFile}`,
    });
  });

  test("handover doctor UNIT examines the file of a unit that does not run", async () => {
    const run = await withSystemctl(
      recorded({ ActiveState: "inactive", MainPID: 0, Type: "oneshot" }),
      "doctor",
      "app.service",
      "--json",
    );
    expect(run.code).toBe(1);
    const found = report(run).findings.filter(({ severity }) => severity === "error");
    expect(found.map(({ check }) => check)).toEqual(["unit-type", "exec-reload", "directory"]);
  });

  test.each([
    [
      "echo LoadState=not-found",
      /^handover: cannot examine the unit app.service: systemd reports it as not-found\n$/,
    ],
    [
      "echo 'Failed to connect to bus: Host is down' >&2; exit 1",
      /^handover: cannot read the unit app.service: Failed to connect to bus: Host is down\n$/,
    ],
    [undefined, /^handover: cannot read the unit app.service: there is no systemctl\n$/],
  ])("handover doctor UNIT reports a systemctl that runs %j", async (script, message) => {
    const run = await withSystemctl(script, "doctor", "app");
    expect(run.stderr).toMatch(message);
    expect([run.code, run.stdout]).toEqual([1, ""]);
  });
});

interface Report {
  subject: string;
  findings: { check: string; severity: string; what: string; why?: string; fix?: string }[];
}

function report(run: Run): Report {
  return jsonLines(run)[0] as unknown as Report;
}

/** What is not good about a process, but for what depends on how the tests were started. */
async function problemsOf(pid: number): Promise<Report["findings"]> {
  const run = await handover("doctor", pid, "--json");
  const found = report(run).findings.filter(({ severity }) => severity !== "ok");
  expect(run.code).toBe(found.some(({ severity }) => severity === "error") ? 1 : 0);
  return found.filter(
    ({ check, severity }) =>
      severity === "error" || !["pid-1", "manager", "terminal", "memory", "tasks"].includes(check),
  );
}

/** That the doctor was right. */
/** The limit of descriptors that leaves a process room for `room` more. */
function limitWithRoom(pid: number, room: number): number {
  const open = new Set(openDescriptors(pid));
  let limit = 0;
  for (let free = 0; free < room; limit++) if (!open.has(limit)) free++;
  return limit;
}

async function expectFailure(pid: number): Promise<void> {
  const { code, stderr } = await handover("upgrade", pid);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/./) as string]);
}

async function startService(
  options: object = {},
  [command, ...words]: string[] = [process.execPath],
  fixture = "http.js",
  directory = temporaryDirectory(),
): Promise<{ service: Service; pidFile: string }> {
  const pidFile = join(directory, "app.pid");
  const script = resolve("test/fixtures", fixture);
  const argument = JSON.stringify({ pidFile, probation: 200, ...options });
  const service = Service.start("", { command: [command!, ...words, script, argument] });
  await service.until("accepting");
  return { service, pidFile };
}

/** A service of its own directory, or of a symlink in it. */
async function startProject(link?: string): Promise<{ directory: string; service: Service }> {
  const directory = temporaryDirectory();
  if (link !== undefined) {
    mkdirSync(join(directory, "1"));
    symlinkSync("1", join(directory, link));
  }
  fill(join(directory, link ?? ""));
  const cwd = join(directory, link ?? "");
  const argument = JSON.stringify({ pidFile: join(temporaryDirectory(), "app.pid"), probation: 200 });
  const service = Service.start("", {
    command: [process.execPath, "server.js", argument],
    cwd,
    env: { PWD: cwd },
  });
  await service.until("accepting");
  return { directory, service };
}

function fill(directory: string): void {
  mkdirSync(join(directory, "node_modules"));
  symlinkSync(resolve("."), join(directory, "node_modules", "handover"));
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  for (const [name, as] of [
    ["http.js", "server.js"],
    ["report.js", "report.js"],
  ] as const) {
    copyFileSync(join("test/fixtures", name), join(directory, as));
  }
}

/** Runs handover with a `systemctl` that is this script; without one, with none. */
async function withSystemctl(script: string | undefined, ...args: string[]): Promise<Run> {
  const bin = join(temporaryDirectory(), "bin");
  if (script !== undefined) installSystemctl(bin, script);
  return startHandover(args, { PATH: bin }).ended;
}

function installSystemctl(bin: string, script: string): void {
  mkdirSync(bin);
  const version = `[ "$1" = --version ] && { echo "systemd 252 (252.38-1~deb12u1)"; exit; }`;
  writeFileSync(join(bin, "systemctl"), `#!/bin/sh\n${version}\n${script}\n`, { mode: 0o755 });
}

/** Of a unit by systemd 252, with other values for some properties. */
function recorded(values: Record<string, string | number>, reloading?: string): string {
  const times = "start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0";
  const exec = (words: string): string =>
    `{ path=/bin/sh ; argv[]=/bin/sh ${words} ; ignore_errors=no ; ${times} }`;
  const properties = {
    Type: "notify",
    NotifyAccess: "main",
    PIDFile: "/run/app/app.pid",
    OOMPolicy: "continue",
    TimeoutStartUSec: "1min 30s",
    TimeoutStopUSec: "45s",
    FileDescriptorStoreMax: 64,
    MainPID: 0,
    ExecStart: exec("server.js"),
    ...(reloading === undefined ? {} : { ExecReload: exec(reloading) }),
    WorkingDirectory: "/srv/app",
    User: "app",
    PrivateTmp: "no",
    ProtectSystem: "no",
    KillMode: "mixed",
    KillSignal: 15,
    LoadState: "loaded",
    ActiveState: "active",
    NeedDaemonReload: "no",
    ...values,
  };
  const lines = Object.entries(properties).map(([name, value]) => `${name}=${value}`);
  return `/bin/cat <<'END'\n${lines.join("\n")}\nEND`;
}
