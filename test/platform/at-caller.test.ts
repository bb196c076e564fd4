import { spawnSync } from "node:child_process";
import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/service.js";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));

/** What a program prints on stderr, as Node prints an error that is not caught; in a directory that is called `home`. */
function printed(name: string, lines: readonly string[], ...options: string[]): string {
  const home = realpathSync(temporaryDirectory());
  mkdirSync(join(home, "node_modules"));
  symlinkSync(PACKAGE, join(home, "node_modules", "handover"));
  writeFileSync(join(home, name), lines.join("\n"));
  const { stderr, status } = spawnSync(process.execPath, [...options, name], { cwd: home, encoding: "utf8" });
  expect(status).toBe(1);
  return stderr.replaceAll(home, "home");
}

const PID_FILE = 'const upg = new Upgrader({ pidFile: "/nowhere/app.pid" });';

describe("an error of handover that a program does not catch", () => {
  test.each([
    ["new Upgrader()", ['import { Upgrader } from "handover";', "", 'new Upgrader({ pidfile: "a" });']],
    ["slot()", ['import { Upgrader } from "handover";', "const upg = new Upgrader();", 'upg.slot("a", {});']],
    [
      "listen()",
      ['import { Upgrader } from "handover";', "const upg = new Upgrader();", "await upg.listen(1);"],
    ],
    ["ready()", ['import { Upgrader } from "handover";', PID_FILE, "await upg.ready();"]],
    ["postgres()", ['import { postgres } from "handover/postgres";', "", 'postgres({ service: "a" });']],
    ["etcd()", ['import { etcd } from "handover/etcd";', "", 'etcd({ service: "a", endpoints: "b" });']],
  ])("shows the line of the program that has called %s", (_, lines) => {
    const text = printed("program.mjs", lines);
    expect(text.split("\n").slice(0, 2)).toEqual(["file://home/program.mjs:3", lines[2]]);
    // Its cause, which follows, is the system's.
    const [error] = text.split("[cause]");
    expect(error).toMatch(/HandoverError\]?: .*\n {4}at (?:async )?file:\/\/home\/program.mjs:3:\d+/);
    expect(error).not.toContain("dist/bundle");
  });

  test("shows no line of the package if the program is CommonJS", () => {
    const text = printed("program.cjs", [
      'require("handover").Upgrader;',
      "",
      `new ${UPGRADER}({ pidfile: 1 });`,
    ]);
    expect(text).toMatch(/^HandoverError: .*\n {4}at Object\.<anonymous> \(home\/program\.cjs:3:\d+\)\n/);
    expect(text).not.toContain("dist/bundle");
  });

  test("keeps its stack if the program has not waited for the call", () => {
    const lines = ['import { Upgrader } from "handover";', PID_FILE, "setImmediate(() => void upg.ready());"];
    expect(printed("program.mjs", lines)).toMatch(/HandoverError: .*\n {4}at .*dist\/bundle/);
  });

  test("has the lines of handover with source maps", () => {
    const lines = ['import { Upgrader } from "handover";', "", 'new Upgrader({ pidfile: "a" });'];
    expect(printed("program.mjs", lines, "--enable-source-maps")).toMatch(
      /at .*src\/util\/validation\.ts:\d+/,
    );
  });
});

const UPGRADER = '(require("handover").Upgrader)';
