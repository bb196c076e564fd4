import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { successorCommand } from "../../dist/process/command.js";
import type { LaunchInfo } from "../../dist/process/launch-info.js";

const home = realpathSync(mkdtempSync(join(tmpdir(), "handover-")));
const directory = join(home, "release");
const logical = join(home, "current");
mkdirSync(directory);
symlinkSync("release", logical);
const loop = join(home, "loop");
symlinkSync("loop", loop);
afterAll(() => rmSync(home, { recursive: true }));

const from: LaunchInfo = {
  argv: ["node", "--import", "x", "server.js", ""],
  env: { PATH: "/bin", PWD: directory },
  physicalCwd: directory,
  logicalCwd: directory,
  warning: undefined,
};

test("successorCommand() has the words, environment and directory of the first process", () => {
  expect(successorCommand(from, {})).toEqual({
    file: "node",
    argv0: "node",
    args: ["--import", "x", "server.js", ""],
    cwd: directory,
    env: { PATH: "/bin", PWD: directory },
  });
});

test("successorCommand() adds no PWD to an environment without one", () => {
  expect(successorCommand({ ...from, env: { PATH: "/bin" } }, {}).env).toEqual({ PATH: "/bin" });
  expect(successorCommand({ ...from, env: { PWD: "/elsewhere" } }, {}).env).toEqual({ PWD: "/elsewhere" });
});

test("successorCommand() has the logical name of the directory in PWD", () => {
  const { cwd, env } = successorCommand({ ...from, logicalCwd: logical, env: { INIT_CWD: logical } }, {});
  expect(cwd).toBe(logical);
  expect(env).toEqual({ INIT_CWD: logical, PWD: logical });
});

test.each([
  ["node", "node"],
  ["/opt/node", "/opt/node"],
  ["./node", join(logical, "node")],
  ["bin/node", join(logical, "bin/node")],
])(
  "the command %s is found at %s: with a slash it is a path, relative to the logical directory",
  (word, file) => {
    const command = successorCommand({ ...from, logicalCwd: logical, argv: [word, "server.js"] }, {});
    expect(command).toMatchObject({ file, argv0: word, args: ["server.js"] });
  },
);

test("successorCommand() leaves out the variables of this process alone", () => {
  const env = {
    LISTEN_FDS: "1",
    LISTEN_PID: "1",
    LISTEN_FDNAMES: "a",
    NODE_CHANNEL_FD: "3",
    NODE_CHANNEL_SERIALIZATION_MODE: "json",
    NODE_UNIQUE_ID: "1",
    HANDOVER_CHANNEL: "3:4",
    KEPT: "1",
    NODE_ENV: "production",
    LISTENER: "1",
    HANDOVER_CHANNELS: "1",
  };
  const kept = { KEPT: "1", NODE_ENV: "production", LISTENER: "1", HANDOVER_CHANNELS: "1" };
  expect(successorCommand({ ...from, env }, {}).env).toEqual(kept);
  expect(successorCommand(from, { env }).env).toEqual(kept);
});

test.each([
  [
    ["--inspect", "server.js", "--inspect"],
    ["--inspect=0", "server.js", "--inspect"],
  ],
  [
    ["--inspect=9229", "server.js"],
    ["--inspect=0", "server.js"],
  ],
  [
    ["--require", "./x.js", "--inspect-brk=[::1]:9229", "a"],
    ["--require", "./x.js", "--inspect-brk=[::1]:0", "a"],
  ],
  [
    ["--inspect-wait=localhost", "a"],
    ["--inspect-wait=localhost:0", "a"],
  ],
  [
    ["--inspect", "--inspect-port", "0.0.0.0:9300", "a"],
    ["--inspect=0", "--inspect-port", "0.0.0.0:0", "a"],
  ],
  [
    ["--inspect-publish-uid=stderr", "a"],
    ["--inspect-publish-uid=stderr", "a"],
  ],
  [
    ["--inspect=0", "a"],
    ["--inspect=0", "a"],
  ],
])("the words %j of this process start the inspector of its successor by %j", (words, expected) => {
  expect(successorCommand({ ...from, argv: ["node", ...words] }, {}).args).toEqual(expected);
  expect(successorCommand(from, { args: words }).args).toEqual(expected);
});

test.each([
  [' --inspect  --require "a b"', '--inspect=0 --require "a b"'],
  ['--import="/a  blank/ü.js" --inspect', '--import="/a  blank/ü.js" --inspect=0'],
  ['"--inspect=localhost:9229" --no-warnings', '"--inspect=localhost:0" --no-warnings'],
  ["--inspect-port 9229", "--inspect-port 0"],
  ['--require "/a --inspect b/x.js"', '--require "/a --inspect b/x.js"'],
  ["--title=a  --no-warnings ", "--title=a  --no-warnings "],
])("NODE_OPTIONS=%j is %j for a successor", (NODE_OPTIONS, expected) => {
  const { env } = successorCommand({ ...from, env: { NODE_OPTIONS } }, {});
  expect(env).toEqual({ NODE_OPTIONS: expected });
});

describe("the option spawn", () => {
  test("the option spawn replaces the parts that it names, and no other", () => {
    const original = successorCommand(from, {});
    expect(successorCommand(from, { command: "bun" })).toEqual({ ...original, file: "bun", argv0: "bun" });
    expect(successorCommand(from, { args: ["a"] })).toEqual({ ...original, args: ["a"] });
    expect(successorCommand(from, { env: { A: "1" } })).toEqual({ ...original, env: { A: "1" } });
    expect(successorCommand(from, { cwd: home })).toEqual({
      ...original,
      cwd: home,
      env: { PATH: "/bin", PWD: home },
    });
  });

  test("the option spawn.cwd holds for a relative command", () => {
    expect(successorCommand(from, { cwd: home, command: "./node" }).file).toBe(join(home, "node"));
  });

  test.each([
    [{ command: 1 }, "ERR_OPTION", 'the option "spawn.command" must be a string that is not empty, not 1'],
    [{ args: [1] }, "ERR_OPTION", 'the option "spawn.args" must be an array of strings, not [ 1 ]'],
    [{ cwd: "" }, "ERR_OPTION", "the option \"spawn.cwd\" must be a string that is not empty, not ''"],
    [{ cwd: "a" }, "ERR_OPTION", "the option \"spawn.cwd\" must be an absolute path, not 'a'"],
    [{ cwd: "/dev/null" }, "ERR_SPAWN", "cannot start a successor in /dev/null: there is no such directory"],
    [
      { cwd: loop },
      "ERR_SPAWN",
      expect.stringContaining(`cannot start a successor in ${loop}: ELOOP`) as string,
    ],
  ])("the option spawn refuses %o", (override, code, message) => {
    expect(() => successorCommand(from, override as object)).toThrow(
      expect.objectContaining({ code, message }),
    );
  });
});
