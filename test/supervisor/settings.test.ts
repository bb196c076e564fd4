import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { HandoverError } from "../../dist/errors.js";
import { readQuota, usableProcessors } from "../../dist/platform/cgroup.js";
import {
  checkSupervisorOptions,
  readSupervisorOptions,
  SUPERVISOR_OPTIONS,
  type SupervisorSettings,
} from "../../dist/supervisor/settings.js";
import { membersOf } from "../support/declarations.js";
import { temporaryDirectory } from "../support/service.js";

/** A directory with `server.js`, and other files. */
function project(files: Record<string, string> = {}): string {
  const directory = temporaryDirectory();
  for (const [name, text] of Object.entries({ "server.js": "", ...files })) {
    writeFileSync(join(directory, name), text);
  }
  return directory;
}

function read(options: object, directory = project()): SupervisorSettings {
  return readSupervisorOptions({ program: "server.js", ...options }, directory);
}

test("every option of a supervisor has a default, except the program", () => {
  const directory = project();
  const { command, readEnv, ...settings } = read({}, directory);
  expect(settings).toEqual({
    name: "server",
    workers: usableProcessors(),
    rolling: undefined,
    pidFile: undefined,
    controlSocket: true,
    signals: { upgrade: "SIGHUP", stop: ["SIGTERM", "SIGINT"] },
    readyTimeout: 60_000,
    probation: 3_000,
    hangTimeout: 30_000,
    stopTimeout: undefined,
    restarts: 10,
    restartWindow: 60_000,
    backoff: 100,
    maxMemory: undefined,
    health: undefined,
    sticky: undefined,
    rebalance: true,
    prefix: false,
  });
  expect(command).toMatchObject({ args: [join(directory, "server.js")], cwd: directory });
  expect(readEnv()["PATH"]).toBe(process.env["PATH"]);
});

test("the options that are checked are those of SupervisorOptions", () => {
  expect(SUPERVISOR_OPTIONS.toSorted()).toEqual(membersOf("SupervisorOptions").toSorted());
});

test.each([
  [{ workers: 1 }, { workers: 1 }],
  [{ workers: 253 }, { workers: 253 }],
  [{ workers: "max" }, { workers: usableProcessors() }],
  [{ rolling: 1 }, { rolling: 1 }],
  [{ name: "web-1.2_x" }, { name: "web-1.2_x" }],
  [{ pidFile: "/run/a.pid" }, { pidFile: "/run/a.pid", controlSocket: "/run/a.pid.sock" }],
  [{ pidFile: "/run/a.pid", controlSocket: false }, { controlSocket: false }],
  [{ controlSocket: "/run/a.sock" }, { controlSocket: "/run/a.sock" }],
  [{ signals: false }, { signals: { upgrade: undefined, stop: [] } }],
  [{ readyTimeout: 1 }, { readyTimeout: 1 }],
  [{ probation: 0 }, { probation: 0 }],
  [{ hangTimeout: 0 }, { hangTimeout: 0 }],
  [{ stopTimeout: 1 }, { stopTimeout: 1 }],
  [{ restarts: 0 }, { restarts: 0 }],
  [{ backoff: 0 }, { backoff: 0 }],
  [{ maxMemory: 2 ** 20 }, { maxMemory: 1_048_576 }],
  [{ maxMemory: "512M" }, { maxMemory: 536_870_912 }],
  [{ maxMemory: "2g" }, { maxMemory: 2_147_483_648 }],
  [{ maxMemory: "2048KB" }, { maxMemory: 2_097_152 }],
  [{ health: "/up?x=1" }, { health: { paths: [{ name: undefined, path: "/up?x=1" }] } }],
  [{ health: "web:/up" }, { health: { paths: [{ name: "web", path: "/up" }] } }],
  [
    { health: ["tcp:127.0.0.1:80:/a", "unix:/run/x.sock:/b"] },
    {
      health: {
        paths: [
          { name: "tcp:127.0.0.1:80", path: "/a" },
          { name: "unix:/run/x.sock", path: "/b" },
        ],
      },
    },
  ],
  [{ health: { command: ["curl", "-f"] } }, { health: { command: ["curl", "-f"] } }],
  [{ sticky: "ip" }, { sticky: "ip" }],
  [
    { rebalance: false, prefix: true },
    { rebalance: false, prefix: true },
  ],
])("the supervisor's options %o are accepted", (options, settings) => {
  expect(read(options)).toMatchObject(settings);
});

const time = (name: string, least: number): string =>
  `the option "${name}" must be a whole number of milliseconds from ${least} to 2147483647`;

test.each([
  [{ program: undefined }, 'the option "program" must be a file or a command, not undefined'],
  [{ program: 7 }, 'the option "program" must be a file or a command, not 7'],
  [{ args: "x" }, "the option \"args\" must be an array of strings, not 'x'"],
  [{ args: ["a", 1] }, 'the option "args[1]" must be a string without a NUL, not 1'],
  [{ nodeArgs: ["a\0"] }, "the option \"nodeArgs[0]\" must be a string without a NUL, not 'a\\x00'"],
  [{ cwd: "nowhere" }, /^the option "cwd" must be a directory, and there is none at \/.*\/nowhere$/],
  [{ cwd: "server.js" }, /^the option "cwd" must be a directory, and there is none at \/.*\/server\.js$/],
  [{ env: [] }, 'the option "env" must be an object of strings, not []'],
  [{ env: { A: 1 } }, 'the option "env.A" must be a string without a NUL, not 1'],
  [{ env: { "A=B": "" } }, "the option \"env\" cannot have a variable named 'A=B'"],
  [{ envFile: "" }, "the option \"envFile\" must be a path, not ''"],
  [{ name: "" }, /^the option "name" must be at most 100 letters, digits, .*, not ''$/],
  [{ name: "a/b" }, /^the option "name" must be .*, not 'a\/b'$/],
  [{ name: "../a" }, /^the option "name" must be .*, not '..\/a'$/],
  [{ workers: 0 }, 'the option "workers" must be a whole number from 1 to 253, or "max", not 0'],
  [{ workers: 254 }, 'the option "workers" must be a whole number from 1 to 253, or "max", not 254'],
  [{ workers: "2" }, /^the option "workers" must be .*, not '2'$/],
  [{ workers: null }, /^the option "workers" must be .*, not null$/],
  [{ rolling: 0 }, 'the option "rolling" must be a whole number from 1 to 253, not 0'],
  [{ pidFile: 7 }, 'the option "pidFile" must be a path, not 7'],
  [{ controlSocket: true }, 'the option "controlSocket" must be a path, not true'],
  [{ signals: null }, 'the option "signals" takes an object of options, not null'],
  [{ signals: { upgrde: "SIGHUP" } }, /^the option "signals" does not know the option "upgrde"; it knows /],
  [{ signals: { stop: ["SIGKILL"] } }, /^the option "signals" must be names of .*, not 'SIGKILL'$/],
  [{ readyTimeout: 0 }, `${time("readyTimeout", 1)}, not 0`],
  [{ readyTimeout: null }, `${time("readyTimeout", 1)}, not null`],
  [{ probation: -1 }, `${time("probation", 0)}, not -1`],
  [{ hangTimeout: "30s" }, `${time("hangTimeout", 0)}, not '30s'`],
  [{ stopTimeout: 0 }, `${time("stopTimeout", 1)}, not 0`],
  [{ restarts: 1.5 }, 'the option "restarts" must be a whole number from 0 to 1000000, not 1.5'],
  [{ restartWindow: 0 }, `${time("restartWindow", 1)}, not 0`],
  [{ backoff: 2 ** 31 }, `${time("backoff", 0)}, not 2147483648`],
  [{ maxMemory: 512 }, /^the option "maxMemory" must be bytes, .*, at least 1M, not 512$/],
  [{ maxMemory: "512 M" }, /^the option "maxMemory" must be .*, not '512 M'$/],
  [{ maxMemory: "1T" }, /^the option "maxMemory" must be .*, not '1T'$/],
  [{ health: "up" }, 'the option "health" must be "/path" or "NAME:/path", not \'up\''],
  [{ health: "/a b" }, 'the option "health" must be "/path" or "NAME:/path", not \'/a b\''],
  [{ health: [] }, /^the option "health" must be "\/path" or .*, a list of these, or .*, not \[\]$/],
  [{ health: ["/a", "x:/b"] }, /^the option "health" must name the listener of each path/],
  [{ health: ["x:/a", "x:/b"] }, 'the option "health" has two paths for one listener'],
  [{ health: ["x:/a", 1] }, 'the option "health[1]" must be "/path" or "NAME:/path", not 1'],
  [{ health: { command: [] } }, 'the option "health.command" must be the words of a command, not []'],
  [{ health: { command: "curl" } }, "the option \"health.command\" must be an array of strings, not 'curl'"],
  [{ health: { path: "/" } }, /^the option "health" must be .*, not \{ path: '\/' \}$/],
  [{ sticky: true }, 'the option "sticky" must be "ip", not true'],
  [{ rebalance: 1 }, 'the option "rebalance" must be true or false, not 1'],
  [{ prefix: "yes" }, "the option \"prefix\" must be true or false, not 'yes'"],
  [{ worker: 2 }, /^supervise\(\) does not know the option "worker"; it knows program, /],
])("the supervisor's options %o are refused", (options, message) => {
  expect(() => read(options)).toThrow(HandoverError);
  expect(() => read(options)).toThrow(message);
  expect(thrownBy(() => read(options))).toMatchObject({ code: "ERR_OPTION" });
});

test("all faults of a supervisor's options are found at once", () => {
  const wrong = { program: "nowhere.js", workers: 0, maxMemory: "x", health: ["x:/a", "b"] };
  const { faults } = checkSupervisorOptions(wrong, project());
  expect(faults.map(({ option }) => option)).toEqual(["program", "workers", "maxMemory", "health[1]"]);
});

describe("the program of the workers", () => {
  test.each(["js", "mjs", "cjs", "ts", "mts", "cts"])("that ends with .%s is run by Node", (ending) => {
    const directory = project({ [`app.${ending}`]: "" });
    chmodSync(join(directory, `app.${ending}`), 0o755);
    const { command } = read({ program: `app.${ending}`, nodeArgs: ["--a"], args: ["b"] }, directory);
    expect(command.args).toEqual(["--a", join(directory, `app.${ending}`), "b"]);
  });

  test("that the system cannot run is run by Node, whatever its name", () => {
    const directory = project({ app: "" });
    expect(read({ program: "./app" }, directory).command.args).toEqual([join(directory, "app")]);
  });

  test("that the system can run is a command", () => {
    const directory = project({ app: "#!/bin/sh\n" });
    chmodSync(join(directory, "app"), 0o755);
    const { command } = read({ program: "./app", args: ["x"] }, directory);
    expect(command).toEqual({ command: join(directory, "app"), args: ["x"], cwd: directory });
  });

  test("that is a word is looked up on PATH at each start", () => {
    const { command } = read({ program: "node", args: ["--enable-source-maps", "server.js"] });
    expect(command).toMatchObject({ command: "node", args: ["--enable-source-maps", "server.js"] });
  });

  test("is looked up in the working directory", () => {
    const directory = project();
    mkdirSync(join(directory, "app"));
    writeFileSync(join(directory, "app", "main.js"), "");
    const { command } = read({ program: "main.js", cwd: "app" }, directory);
    expect(command).toMatchObject({
      args: [join(directory, "app", "main.js")],
      cwd: join(directory, "app"),
    });
  });

  test.each([
    ["nowhere.js", /cannot be run: there is no file \/.*\/nowhere\.js$/],
    ["./nowhere", /cannot be run: there is no file \/.*\/nowhere$/],
    [".", /cannot be run: there is no file \/.*, and no command \. on PATH$/],
    ["./", /cannot be run: \/.* is not a file$/],
    ["no-such-command", /cannot be run: there is no file \/.*, and no command no-such-command on PATH$/],
  ])("%s is missing, which is said", (program, message) => {
    expect(thrownBy(() => read({ program }))).toMatchObject({
      code: "ERR_OPTION",
      message: expect.stringMatching(message) as string,
    });
  });

  test("that is a command takes no options of Node", () => {
    expect(() => read({ program: "node", nodeArgs: ["--x"] })).toThrow(
      'the option "nodeArgs" cannot be used: node is a command, and not a file that Node runs; write node --x …',
    );
  });
});

describe("the name of a service", () => {
  test.each([
    ["that of the package", '{"name": "shop"}', {}, "shop"],
    ["that of the package without its scope", '{"name": "@a/shop"}', {}, "shop"],
    ["that of the file, if the package has none", "{}", {}, "server"],
    ["that of the file, if package.json cannot be read", "{", {}, "server"],
    [
      "that of the script of Node",
      "{}",
      { program: "node", args: ["--enable-source-maps", "./dist/api.js"] },
      "api",
    ],
    ["that of the command", "{}", { program: "sh" }, "sh"],
  ])("is %s", (_, manifest, options, name) => {
    expect(read(options, project({ "package.json": manifest })).name).toBe(name);
  });
});

describe("the environment of the workers", () => {
  test("is that of this process, then that of envFile, then env", () => {
    const directory = project({ ".env": "HOME=/file\nA=file\nB=file\n" });
    const env = { B: "option", PATH: undefined };
    const variables = read({ envFile: ".env", env }, directory).readEnv();
    expect(variables).toMatchObject({ HOME: "/file", A: "file", B: "option", PATH: undefined });
    expect(variables["USER"]).toBe(process.env["USER"]);
  });

  test("has what is in envFile at each start", () => {
    const directory = project({ ".env": "A=1\nB=1\n" });
    const { readEnv } = read({ envFile: ".env" }, directory);
    writeFileSync(join(directory, ".env"), "A='2'\n");
    expect(readEnv()).toMatchObject({ A: "2" });
    expect(readEnv()).not.toHaveProperty("B");
  });

  test.each([
    ["has a line without =", "A='1\n2'\n\n# x\nnonsense\nB=2", /line 5 is not NAME=value$/],
    ["has a name with a blank", "export A=1\nB C=2", /line 2 is not NAME=value$/],
    ["has a NUL", "A=\0", /it contains a NUL$/],
    ["is not UTF-8", Buffer.from([0x41, 0x3d, 0xff]), /encoded data was not valid/],
    ["is too long", `A=${"x".repeat(2 ** 20)}`, /it is longer than 1048576 bytes$/],
  ])("cannot be read from a file that %s", (_, text, reason) => {
    const directory = project({ ".env": "A=1" });
    const { readEnv } = read({ envFile: ".env" }, directory);
    writeFileSync(join(directory, ".env"), text);
    expect(thrownBy(readEnv)).toMatchObject({
      code: "ERR_OPTION",
      message: expect.stringMatching(/^the option "envFile" names a file that .* \/.*\/\.env: /) as string,
    });
    expect(() => readEnv()).toThrow(reason);
  });

  test("is read as Node reads such a file", () => {
    const text = `# all forms\r\nA=1\r\n\n  B = "x\ny" # z\nexport C='#'\nD=\nE=a b#c\nG.h-i=\`'\`\nF="unclosed\n`;
    const directory = project({ ".env": text });
    const expected = { A: "1", B: "x\ny", C: "#", D: "", E: "a b", "G.h-i": "'", F: '"unclosed' };
    expect(read({ envFile: ".env" }, directory).readEnv()).toMatchObject(expected);
  });

  test("cannot be read from a directory or a file that is missing", () => {
    expect(() => read({ envFile: "." })).toThrow(/: it is not a file$/);
    expect(() => read({ envFile: "nowhere" })).toThrow(/: ENOENT/);
  });
});

describe("the number of processors", () => {
  test.each([
    ["2", "100000 100000\n", 1],
    ["2", "250000 100000\n", 2.5],
    ["2", "max 100000\n", Infinity],
    ["2", "nonsense", Infinity],
  ])("follows the quota of version %s of the control groups: %j", (_, max, quota) => {
    const root = temporaryDirectory();
    mkdirSync(join(root, "app"));
    writeFileSync(join(root, "app", "cpu.max"), max);
    expect(readQuota("0::/app", `1 2 0:3 / ${root} rw - cgroup2 none rw`)).toBe(quota);
  });

  test.each([
    ["150000", 1.5],
    ["-1", Infinity],
  ])("follows the quota of version 1 of the control groups: %s", (limit, quota) => {
    const root = temporaryDirectory();
    writeFileSync(join(root, "cpu.cfs_quota_us"), limit);
    writeFileSync(join(root, "cpu.cfs_period_us"), "100000");
    expect(readQuota("3:cpu,cpuacct:/", `1 2 0:3 / ${root} rw - cgroup none rw,cpu,cpuacct`)).toBe(quota);
  });

  test("follows the smallest quota of a control group and its ancestors", () => {
    const root = temporaryDirectory();
    mkdirSync(join(root, "a", "b"), { recursive: true });
    writeFileSync(join(root, "a", "cpu.max"), "200000 100000");
    writeFileSync(join(root, "a", "b", "cpu.max"), "400000 100000");
    expect(readQuota("0::/a/b", `1 2 0:3 / ${root} rw - cgroup2 none rw`)).toBe(2);
  });

  test("is from 1 to that of the machine", () => {
    expect(usableProcessors()).toBeGreaterThanOrEqual(1);
    expect(usableProcessors()).toBeLessThanOrEqual(availableParallelism());
  });
});

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}
