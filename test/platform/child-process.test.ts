import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import {
  startProgram,
  type ChildProcess,
  type ExitStatus,
  type Program,
} from "../../dist/platform/child-process.js";
import { check, native } from "../../dist/platform/native.js";
import { readStat } from "../../dist/platform/proc.js";
import { forAnotherUser } from "../support/another-user.js";
import { asRoot, isSkipped } from "../support/root.js";
import { descriptorCount, temporaryDirectory } from "../support/service.js";

let home: string;
beforeEach(() => (home = temporaryDirectory()));

/** Starts a program as handover does, and as Node does. */
const ways = {
  handover: startProgram,
  node: async ({ file, args, ...options }: Program, fds: readonly number[]) => {
    const child = spawn(file, args, { ...options, stdio: [...fds] });
    await once(child, "spawn");
    const exited = once(child, "exit").then(([code, signal]): ExitStatus => ({ code, signal }));
    return { pid: child.pid!, exited };
  },
};

describe("a program that is started", () => {
  it("a started program gets what child_process.spawn gives: words, environment, directory, signals, group and descriptors", async () => {
    const [left, right] = pair();
    const options = {
      argv0: "my cat",
      cwd: fs.realpathSync(home),
      env: { PATH: "/bin:/usr/bin", EMPTY: "", LINES: "a\nb=c", UNSET: undefined, UNICODE: "ü€😀" },
    };
    const [ours, theirs] = await both(async (start) => {
      const read = async (file: string): Promise<string> =>
        output(start, command("cat", [`/proc/self/${file}`], options), [left]);
      const status = await read("status");
      return {
        words: await read("cmdline"),
        environment: (await read("environ")).split("\0"),
        blocked: signals(status, "Blk"),
        ignored: signals(status, "Ign"),
        // The parent, the group, the session and the terminal.
        family: (await read("stat")).split(" ").slice(3, 7),
        flags: [await read("fdinfo/0"), await read("fdinfo/3")],
        links: linksIn(await output(start, command("ls", ["-l", "/proc/self/fd"], options), [left])),
        directory: await output(start, command("pwd", ["-P"], options)),
      };
    });
    expect(ours).toEqual(theirs);
    expect(ours).toMatchObject({
      words: "my cat\0/proc/self/cmdline\0",
      environment: ["PATH=/bin:/usr/bin", "EMPTY=", "LINES=a\nb=c", "UNICODE=ü€😀", ""],
      blocked: [],
      ignored: [],
      directory: `${options.cwd}\n`,
    });
    const [own, other] = [left, right].map((fd) => fs.readlinkSync(`/proc/self/fd/${fd}`));
    expect(ours.links.filter((link) => link.endsWith(own!))).toEqual([`3 -> ${own}`]);
    expect(ours.links.filter((link) => link.endsWith(other!))).toEqual([]);
    // Node ignores SIGPIPE itself.
    expect(signals(fs.readFileSync("/proc/self/status", "latin1"), "Ign")).toContain(
      constants.signals.SIGPIPE,
    );
    for (const fd of [left, right]) native().close(fd);
  });

  it("a started program gets each descriptor at its place, even if the places of two are each other's numbers", async () => {
    const [a, b] = ["a", "b"].map((name) => {
      fs.writeFileSync(join(home, name), name);
      return fs.openSync(join(home, name), "r");
    }) as [number, number];
    const log = fs.openSync(join(home, "log"), "w");
    const fds = Array.from({ length: Math.max(a, b) + 1 }, () => log);
    fds[a] = b;
    fds[b] = a;
    await (
      await startProgram(command("cat", [`/dev/fd/${a}`, `/dev/fd/${b}`]), fds)
    ).exited;
    for (const fd of [a, b, log]) fs.closeSync(fd);
    expect(fs.readFileSync(join(home, "log"), "utf8")).toBe("ba");
  });

  it("a started program has blocking standard descriptors, as child_process.spawn gives", async () => {
    const [left, right] = pair();
    const [ours, theirs] = await both(async (start) => {
      const child = await start(command("true", []), [left, 1, 2]);
      await child.exited;
      const flags = /flags:\s*(\d+)/.exec(fs.readFileSync(`/proc/self/fdinfo/${left}`, "latin1"))![1]!;
      return Number.parseInt(flags, 8) & fs.constants.O_NONBLOCK;
    });
    expect([ours, theirs]).toEqual([0, 0]);
    native().close(left);
    native().close(right);
  });
});

describe("a command", () => {
  it.each<[string, () => string | undefined, string]>([
    ["in the first directory of PATH", () => `${directory("a")}:${directory("b")}`, "a x"],
    ["in the next directory if one is missing", () => `${home}/missing:${directory("b")}`, "b x"],
    ["in the next directory if one is a file", () => `/dev/null:${directory("b")}`, "b x"],
    [
      "in the next directory if one has a file that may not be run",
      () => {
        return `${directory("a", 0o644)}:${directory("b")}`;
      },
      "b x",
    ],
    [
      "in the next directory if one has a directory of its name",
      () => {
        fs.mkdirSync(join(home, "a", "tool"), { recursive: true });
        return `${home}/a:${directory("b")}`;
      },
      "b x",
    ],
    [
      "in a relative directory, which begins in that of the program",
      () => {
        directory("a");
        return "a";
      },
      "a x",
    ],
    [
      "in the directory of the program, where PATH has an empty entry",
      () => {
        directory(".");
        return "/nowhere:";
      },
      ". x",
    ],
    [
      "in the directory of the program, if PATH is empty",
      () => {
        directory(".");
        return "";
      },
      ". x",
    ],
    [
      "behind a link of PATH that is left upwards",
      () => {
        directory("real/bin");
        fs.mkdirSync(join(home, "real/release"));
        fs.symlinkSync("real/release", join(home, "current"));
        return `${home}/current/../bin`;
      },
      "real/bin x",
    ],
  ])("is found %s, as child_process.spawn finds it", async (_, path, printed) => {
    const program = command("tool", ["x"], { cwd: home, env: { PATH: path() } });
    const [ours, theirs] = await both(async (start) => (await output(start, program)).trim());
    expect([ours, theirs]).toEqual([printed, printed]);
  });

  it("is found in the directories of the system without PATH, and not by this process's PATH", async () => {
    const outcomes = await both(async (start) => {
      return Promise.all([
        output(start, command("true", [], { env: {} })),
        failure(start, command("tool", [], { env: { PATH: directory("elsewhere-empty", 0o755, "other") } })),
      ]);
    });
    expect(outcomes[0]).toEqual(outcomes[1]);
    expect(outcomes[0]).toEqual(["", { code: "ENOENT", message: "spawn tool ENOENT" }]);
  });

  it.each([
    ["on PATH", "tool"],
    ["by its path", "./tool"],
  ])("without #! runs in a shell, %s", async (_, file) => {
    fs.writeFileSync(join(home, "tool"), 'echo "$0" "$@"\n', { mode: 0o755 });
    const program = command(file, ["a b", ""], { argv0: "other", cwd: home, env: { PATH: home } });
    const [ours, theirs] = await both(async (start) => output(start, program));
    expect(ours).toBe(theirs);
    expect(ours).toMatch(/tool a b $/m);
  });

  const failures: [string, () => Program, string, string][] = [
    ["that is not there", () => command("/nowhere/tool", []), "ENOENT", "spawn /nowhere/tool ENOENT"],
    [
      "that is not on PATH",
      () => command("tool", [], { env: { PATH: home } }),
      "ENOENT",
      "spawn tool ENOENT",
    ],
    ["that may not be run", () => command(join(directory("a", 0o644), "tool"), []), "EACCES", "EACCES"],
    [
      "that may not be run, and is not there in the next directory",
      () => command("tool", [], { env: { PATH: `${directory("a", 0o644)}:${home}` } }),
      "EACCES",
      "spawn tool EACCES",
    ],
    [
      "that may not be run, and whose interpreter is not there in the next directory",
      () => {
        const path = `${directory("a", 0o644)}:${directory("b")}`;
        fs.writeFileSync(join(home, "b/tool"), "#!/nowhere");
        return command("tool", [], { env: { PATH: path } });
      },
      "EACCES",
      "spawn tool EACCES",
    ],
    ["that is a directory", () => command(home, []), "EACCES", "EACCES"],
    ["below a file", () => command("/dev/null/tool", []), "ENOTDIR", "ENOTDIR"],
    ["with too long an argument", () => command("true", ["x".repeat(200_000)]), "E2BIG", "E2BIG"],
    [
      "with too large an environment",
      () => command("true", [], { env: { PATH: "/bin", A: "x".repeat(200_000) } }),
      "E2BIG",
      "E2BIG",
    ],
    [
      "that is a link to itself",
      () => {
        fs.symlinkSync("loop", join(home, "loop"));
        return command(join(home, "loop"), []);
      },
      "ELOOP",
      "ELOOP",
    ],
  ];

  it.each(failures)("%s is refused with the error of child_process.spawn", async (_, program, code, said) => {
    const asked = program();
    const [ours, theirs] = await both(async (start) => failure(start, asked));
    expect([ours.code, theirs.code]).toEqual([code, code]);
    expect(ours.message).toContain(said);
    expect(ours.message).toContain(`spawn ${asked.file} `);
  });

  it.each([
    ["that is not there", "missing", "ENOENT"],
    ["that is a file", "file", "ENOTDIR"],
  ])("is refused in a directory %s, which the error names", async (_, name, code) => {
    fs.writeFileSync(join(home, "file"), "");
    const cwd = join(home, name);
    const message = `cannot enter the directory ${cwd}: ${code}`;
    expect(await failure(startProgram, command("true", [], { cwd }))).toEqual({ code, message });
  });
});

describe("the end of a started program", () => {
  it.each<[string, ExitStatus]>([
    ["exit 0", { code: 0, signal: null }],
    ["exit 255", { code: 255, signal: null }],
    ["kill -SEGV $$", { code: null, signal: "SIGSEGV" }],
    ["kill -KILL $$", { code: null, signal: "SIGKILL" }],
  ])("is known after %s", async (script, status) => {
    const child = await startProgram(command("sh", ["-c", script]), [0, 1, 2]);
    expect(await child.exited).toEqual(status);
  });

  it("is told for each of 20, and for each of 20 children of child_process that end at the same time", async () => {
    const codes = Array.from({ length: 20 }, (_, n) => n + 1);
    const children = await Promise.all(
      codes.flatMap((code) => [
        ways.handover(exits(code), [0, 1, 2]),
        ways.node(exits(code + 100), [0, 1, 2]),
      ]),
    );
    const statuses = await Promise.all(children.map(({ exited }) => exited));
    expect(statuses.map(({ code }) => code)).toEqual(codes.flatMap((code) => [code, code + 100]));
    expect(zombies()).toEqual([]);
  });

  it("is taken from no other part of the process, and an unknown one is no error", async () => {
    const child = await startProgram(command("sh", ["-c", "exit 3"]), [0, 1, 2]);
    let stolen = native().reap(child.pid);
    while (stolen === -constants.errno.EAGAIN) stolen = native().reap(child.pid);
    expect(stolen).toEqual({ bySignal: false, status: 3 });
    expect(await child.exited).toEqual({ code: null, signal: null });
  });

  it("comes by kill(), which does nothing afterwards", async () => {
    const child = await startProgram(command("sleep", ["1000"]), [0, 1, 2]);
    child.requestStatus();
    child.kill();
    expect(await child.exited).toEqual({ code: null, signal: "SIGKILL" });
    child.kill();
    child.requestStatus();
    child.unref();
  });

  it.each([
    ["keeps this process alive", "0.1", "referenced", true],
    ["does not keep this process alive once it is unreferenced", "1000", "unreferenced", false],
  ])("%s", async (_, seconds, how, hasExited) => {
    const fixture = fileURLToPath(new URL("../fixtures/native/starts-program.js", import.meta.url));
    const child = spawn(process.execPath, [fixture, seconds, how], { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const printed = await child.stdout.setEncoding("utf8").toArray();
    expect(JSON.parse(printed.join(""))).toEqual({ hasExited });
  });
});

describe("what a start leaves behind", () => {
  it("100 failing starts leave no descriptor and no process behind, and 100 others none after their end", async () => {
    await (
      await startProgram(command("true", []), [0, 1, 2])
    ).exited;
    const before = descriptorCount(process.pid);
    for (let n = 0; n < 100; n++) {
      await failure(startProgram, command(n % 2 === 0 ? "/nowhere" : "/dev/null", []));
      await (
        await startProgram(command("true", []), [0, 1, 2])
      ).exited;
    }
    expect(descriptorCount(process.pid)).toBe(before);
    expect(zombies()).toEqual([]);
  });
});

it("a program that Node's permissions forbid is not started", async () => {
  const flag = process.allowedNodeEnvironmentFlags.has("--permission")
    ? "--permission"
    : "--experimental-permission";
  const fixture = fileURLToPath(new URL("../fixtures/native/starts-when-told.js", import.meta.url));
  const words = [flag, "--allow-addons", "--allow-fs-read=*", fixture];
  const child = spawn(process.execPath, words, { stdio: ["pipe", "pipe", "ignore"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  child.stdin.end("/\n");
  expect((await child.stdout.setEncoding("utf8").toArray()).join("")).toMatch(
    /^Access to this API .*restricted/,
  );
});

describe.skipIf(isSkipped)(`another user${asRoot}`, () => {
  it("another user is told of a directory that may not be entered, and of having too many processes", async () => {
    const closed = join(home, "closed");
    fs.mkdirSync(closed, { mode: 0o700 });
    const user = ["--reuid=65533", "--clear-groups"];
    const child = spawn("setpriv", [...user, ...forAnotherUser().fixture("native/starts-when-told.js")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const startIn = async (cwd: string): Promise<unknown> => {
      child.stdin.write(`${cwd}\n`);
      return (await lines.next()).value;
    };
    expect(await startIn("/")).toBe("started");
    fs.chmodSync(home, 0o755);
    expect(await startIn(closed)).toBe(`cannot enter the directory ${closed}: EACCES`);
    execFileSync("setpriv", [...user, "prlimit", `--pid=${child.pid}`, "--nproc=1"]);
    expect(await startIn("/")).toBe("spawn true EAGAIN");
    child.stdin.end();
  });
});

type Start = (program: Program, fds: readonly number[]) => Promise<Pick<ChildProcess, "pid" | "exited">>;

async function both<T>(run: (start: Start) => Promise<T>): Promise<[T, T]> {
  const ours = await run(ways.handover);
  return [ours, await run(ways.node)];
}

function command(file: string, args: string[], rest: Partial<Program> = {}): Program {
  return { argv0: file, cwd: "/", env: process.env, ...rest, file, args };
}

/** What `ls -l` says of descriptors; the file that it prints to and the directory that it reads differ from run to run. */
function linksIn(listing: string): string[] {
  const links = listing.match(/\d+ -> .*/g) ?? [];
  return links.map((link) => link.replace(/ \S+\/output$/, " output").replace(/\/\d+\//, "/self/"));
}

function exits(code: number): Program {
  return command("sh", ["-c", `exit ${code}`]);
}

/** A directory with a program that says where it is. */
function directory(name: string, mode = 0o755, file = "tool"): string {
  const path = join(home, name);
  fs.mkdirSync(path, { recursive: true });
  fs.writeFileSync(join(path, file), `#!/bin/sh\necho ${name} "$@"\n`, { mode });
  return path;
}

/** What the program prints on its stdout and stderr; its descriptors from 3 on are `more`. */
async function output(start: Start, program: Program, more: readonly number[] = []): Promise<string> {
  const path = join(temporaryDirectory(), "output");
  const fd = fs.openSync(path, "w");
  try {
    await (
      await start(program, [0, fd, fd, ...more])
    ).exited;
    return fs.readFileSync(path, "utf8");
  } finally {
    fs.closeSync(fd);
  }
}

async function failure(start: Start, program: Program): Promise<{ code: unknown; message: string }> {
  const error: unknown = await start(program, [0, 1, 2]).then(
    () => expect.fail("it was started"),
    (reason: unknown) => reason,
  );
  const { code, message } = error as NodeJS.ErrnoException;
  return { code, message };
}

/** The signals up to 31 in a mask of `/proc/<pid>/status`; libc uses some of the others itself. */
function signals(status: string, mask: "Blk" | "Ign"): number[] {
  const bits = BigInt(`0x${new RegExp(`^Sig${mask}:\\s*(\\w+)$`, "m").exec(status)![1]}`);
  return Array.from({ length: 31 }, (_, n) => n + 1).filter((n) => (bits >> BigInt(n - 1)) & 1n);
}

/** The children of this process that were not reaped. */
function zombies(): string[] {
  return fs
    .readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const [state, parent] = readStat(Number(pid));
        return state === "Z" && parent === String(process.pid);
      } catch {
        return false;
      }
    });
}

function pair(): [number, number] {
  return check(native().socketpair(), "make", "a pair of sockets");
}
