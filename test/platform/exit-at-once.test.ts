import { spawnSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it, test } from "vitest";
import { temporaryDirectory } from "../support/service.js";

const MODULE = pathToFileURL("dist/platform/exit-at-once.js").href;

describe("exitAtOnce()", () => {
  it("ends a process with its code, whatever else it waits for", () => {
    expect(exits("setTimeout(() => {}, 30_000)")).toEqual({ status: 3, stdout: "" });
  });

  it.each([
    ["the process has a listener for its exit", `process.on("exit", () => {})`, {}, []],
    ["NODE_OPTIONS may ask for a file", "", { NODE_OPTIONS: "--no-warnings" }, []],
    ["its coverage is to be written", "", { NODE_V8_COVERAGE: "coverage" }, []],
    ["its compiled code is to be written", "", { NODE_COMPILE_CACHE: "compiled" }, []],
    ["an option of Node may ask for a file", "", {}, ["--no-warnings"]],
    ["there is no addon", "", { HANDOVER_ADDON: "no/such/addon" }, []],
  ])("returns if %s", (_, before, env, flags) => {
    expect(exits(before, env, flags)).toEqual({ status: 0, stdout: "returned" });
  });
});

test("handover status leaves the files that Node writes when it exits", () => {
  const directory = temporaryDirectory();
  const env = { ...process.env, NODE_V8_COVERAGE: directory };
  const words = ["bin/handover.js", "status", "--control", "no/such/socket"];
  expect(spawnSync(process.execPath, words, { env }).status).toBe(1);
  expect(readdirSync(directory)).toHaveLength(1);
});

function exits(before: string, env = {}, flags: string[] = []): { status: number | null; stdout: string } {
  const directory = temporaryDirectory();
  const file = join(directory, "program.cjs");
  // Not an ES module: Node itself has a listener for the exit of a program that is one.
  const call = `import(${JSON.stringify(MODULE)}).then(({ exitAtOnce }) => { exitAtOnce(3); process.stdout.write("returned"); });`;
  writeFileSync(file, `${before};${call}`);
  const { PATH } = process.env;
  const { status, stdout } = spawnSync(process.execPath, [...flags, file], {
    env: { PATH, ...env },
    cwd: directory,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  return { status, stdout };
}
