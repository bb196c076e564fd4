import { execFile } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { handover } from "../support/program.js";
import { readAll } from "../support/client.js";
import { brief, Service, temporaryDirectory } from "../support/service.js";

let directory: string;
let path: string;

beforeEach(() => {
  directory = temporaryDirectory();
  path = join(directory, "app.sock");
});

async function start(plans: (object | string)[][], settings: object = brief): Promise<Service> {
  const service = Service.start("listens-by-plan.js", { settings: { ...settings, plans }, cwd: directory });
  await service.until("accepting");
  return service;
}

const inode = (): number => lstatSync(path).ino;

describe("the path of a Unix socket", () => {
  test("the path of a Unix socket stays the same file over upgrades, and is unlinked at the final stop", async () => {
    const service = await start([[{ path }]]);
    expect(await service.until("held")).toMatchObject({ address: path, answer: path });
    const first = inode();
    for (const generation of [1, 2]) {
      const { pid } = await service.replace();
      expect(await service.until("held", { generation })).toMatchObject({ address: path });
      expect(await readAll({ path })).toBe(String(pid));
      expect(inode()).toBe(first);
    }
    await service.stop();
    expect(existsSync(path)).toBe(false);
    expect(service.noise).toBe("");
  });

  test("the path of a Unix socket stays, though the successor asks for it only between ready() and the commit", async () => {
    const service = Service.start("listens-while-announced.js", { settings: { ...brief, path } });
    await service.until("accepting");
    process.kill(service.pid, "SIGHUP");
    await service.until("releasing");
    const { pid } = await service.until("waiting");
    process.kill(pid, "SIGUSR2");
    await service.until("held");
    process.kill(service.pid, "SIGUSR2");
    await service.until("exited", { generation: 0, outcome: "upgraded" });
    expect(await readAll({ path })).toBe(String(pid));
  });

  test("the path of a Unix socket is relative to the working directory", async () => {
    const service = await start([[{ path: "app.sock" }]]);
    expect(await service.until("held")).toMatchObject({ address: path });
    const { pid } = await service.replace();
    expect(await readAll({ path })).toBe(String(pid));
  });

  test("the path of a Unix socket may be the argument of listen()", async () => {
    const service = await start([["./app.sock"]]);
    expect(await service.until("held")).toMatchObject({ address: path });
    const { pid } = await service.replace();
    expect(await readAll({ path })).toBe(String(pid));
  });

  test("the path of a Unix socket is not unlinked at the stop if it is another file by then", async () => {
    const service = await start([[{ path }]]);
    await service.replace();
    rmSync(path);
    writeFileSync(path, "somebody else's");
    await service.stop();
    expect(readFileSync(path, "utf8")).toBe("somebody else's");
  });

  test("the path of a Unix socket may be gone before the stop", async () => {
    const service = await start([[{ path }]]);
    rmSync(path);
    await service.stop();
    expect(service.noise).toBe("");
  });

  test("the path of a Unix socket is unlinked at the end of probation if the successor does not use it", async () => {
    const service = await start([[{ path }], []]);
    await service.replace();
    expect(existsSync(path)).toBe(false);
  });

  test("a rehearsal unlinks the Unix socket that it has bound, and no other", async () => {
    const other = join(directory, "other.sock");
    const settings = { ...brief, pidFile: join(directory, "app.pid") };
    const service = await start([[{ path }], [{ path }, { path: other }]], settings);
    expect(await handover("upgrade", service.pid, "--dry-run")).toMatchObject({ code: 0, stderr: "" });
    expect(await service.until("held", { generation: 1, n: 1 })).toMatchObject({ address: other });
    expect(readdirSync(directory).toSorted()).toEqual(["app.pid", "app.pid.sock", "app.sock"]);
    expect(await readAll({ path })).toBe(String(service.pid));
  });

  test("the path of a Unix socket is unlinked at the end of probation if the successor uses its name for another path", async () => {
    const other = join(directory, "other.sock");
    const service = await start([[{ path, name: "main" }], [{ path: other, name: "main" }]]);
    const { pid } = await service.replace();
    expect(existsSync(path)).toBe(false);
    expect(await readAll({ path: other })).toBe(String(pid));
  });

  test("a Unix socket that the successor does not use still answers after a rollback", async () => {
    const service = await start([[{ path }], []], {});
    process.kill(service.pid, "SIGHUP");
    const { pid } = await service.until("accepting", { generation: 1 });
    process.kill(pid, "SIGKILL");
    await service.until("rollback");
    expect(await readAll({ path })).toBe(String(service.pid));
  });

  test("the path of a Unix socket is unlinked when both processes stop during probation", async () => {
    const service = await start([[{ path }]], {});
    process.kill(service.pid, "SIGHUP");
    const { pid } = await service.until("accepting", { generation: 1 });
    process.kill(pid, "SIGTERM");
    await service.ended();
    expect(existsSync(path)).toBe(false);
  });

  test("the path of a Unix socket is replaced if a dead process has left it behind", async () => {
    const dead = await start([[{ path }]]);
    dead.killAll();
    await dead.ended();
    expect(await readAll({ path })).toBe("ECONNREFUSED");
    const service = await start([[{ path }]]);
    expect(await readAll({ path })).toBe(String(service.pid));
  });

  test("the path of a Unix socket is in use if another process listens there", async () => {
    const server = createServer((socket) => {
      // A probe that goes away at once is no error of this test.
      socket.on("error", () => {}).end("alive");
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    onTestFinished(() => void server.close());
    const service = await start([[{ path }]]);
    expect(await service.until("refused")).toMatchObject({
      code: "ERR_LISTEN",
      cause: "EADDRINUSE",
      message: `cannot listen on unix:${path}: EADDRINUSE (held by pid ${process.pid})`,
    });
    expect(await readAll({ path })).toBe("alive");
  });

  test.each([
    ["a file", () => writeFileSync(path, "precious")],
    ["a directory", () => mkdirSync(path)],
    ["a symlink to nowhere", () => symlinkSync("nowhere", path)],
  ])("the path of a Unix socket is in use if there is %s, which is not removed", async (_, make) => {
    make();
    const before = inode();
    const service = await start([[{ path }]]);
    expect(await service.until("refused")).toMatchObject({ code: "ERR_LISTEN", cause: "EADDRINUSE" });
    await service.stop();
    expect(inode()).toBe(before);
  });

  test("the path of a Unix socket is refused in a directory that does not exist", async () => {
    const nowhere = join(directory, "nowhere", "app.sock");
    const service = await start([[{ path: nowhere }]]);
    expect(await service.until("refused")).toMatchObject({
      cause: "ENOENT",
      message: `cannot listen on unix:${nowhere}: ENOENT`,
    });
  });

  test("the path of a Unix socket has at most 107 bytes", async () => {
    const longest = join(directory, "x".repeat(107 - directory.length - 1));
    const service = await start([
      [{ path: longest }, { path: `${longest}x` }, { path: `\0${"x".repeat(107)}` }],
    ]);
    expect(await readAll({ path: longest })).toBe(String(service.pid));
    for (const n of [1, 2]) {
      expect(await service.until("refused", { n })).toMatchObject({
        code: "ERR_LISTEN",
        cause: "ENAMETOOLONG",
      });
    }
  });
});

describe("a Unix socket whose server the successor closes on probation", () => {
  test("the path of a Unix socket stays for the predecessor if the successor closes its server on probation", async () => {
    const service = await closeOnProbation(60_000);
    process.kill((await service.until("accepting", { generation: 1 })).pid, "SIGUSR2");
    await service.until("rollback");
    expect(await readAll({ path })).toBe(String(service.pid));
    process.kill(service.pid, "SIGTERM");
    await service.ended();
    expect(existsSync(path)).toBe(false);
  });

  test("the path of a Unix socket is unlinked when probation is over if the successor has closed its server", async () => {
    const service = await closeOnProbation(50);
    await service.until("alone", { generation: 1 });
    expect(existsSync(path)).toBe(false);
    await service.stop();
  });
});

describe("the mode of a Unix socket", () => {
  test.each([
    [{ mode: 0o600 }, "600"],
    [{ mode: 0o777 }, "777"],
    [{ readableAll: true }, "744"],
    [{ readableAll: true, writableAll: true }, "766"],
    [{ mode: 0o600, writableAll: true }, "600"],
  ])("the mode of a Unix socket with %o is %s, whatever the umask is", async (options, mode) => {
    await start([[{ path, ...options }]]);
    expect((lstatSync(path).mode & 0o777).toString(8)).toBe(mode);
  });

  test("the mode of a Unix socket is by default the one that the umask leaves", async () => {
    await start([[{ path }]]);
    expect(lstatSync(path).mode & 0o777).toBe(0o777 & ~process.umask());
  });

  test("the mode of a Unix socket stays over an upgrade, though the successor asks for another one", async () => {
    const service = await start([[{ path, mode: 0o600 }], [{ path, mode: 0o666 }]]);
    await service.replace();
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
  });
});

test("an abstract Unix socket is inherited, and leaves no file", async () => {
  const name = `handover-test-${process.pid}`;
  const service = await start([[{ path: `\0${name}` }]]);
  expect(await service.until("held")).toMatchObject({ address: `\0${name}` });
  const { pid } = await service.replace();
  expect(await askAbstract(name)).toBe(String(pid));
  await service.stop();
  await expect(askAbstract(name)).rejects.toThrow("ConnectionRefusedError");
});

/** A service whose successor accepts, is on probation, and has closed its server. */
async function closeOnProbation(probation: number): Promise<Service> {
  const service = Service.start("successor-closes-on-probation.js", {
    settings: { probation, listen: { path } },
  });
  await service.until("accepting");
  process.kill(service.pid, "SIGHUP");
  await service.until("accepting", { generation: 1 });
  return service;
}

/** Node 20 cannot connect to an abstract socket. */
async function askAbstract(name: string): Promise<string> {
  const script =
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('\\0' + sys.argv[1]); print(s.recv(99).decode())";
  const { stdout } = await promisify(execFile)("python3", ["-c", script, name]);
  return stdout.trim();
}
