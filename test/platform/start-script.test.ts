import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = mkdtempSync(join(tmpdir(), "handover-"));
const bundle = join(root, "dist", "bundle");
/** The compiled code, as this Node has made it. */
let file: string;
let compiled: Buffer;

/** A copy of the package, whose compiled code is of the Node that runs the test. */
beforeAll(() => {
  cpSync(join("dist", "bundle"), bundle, { recursive: true });
  for (const name of ["package.json", join("dist", "platform", "start-script.js")]) {
    mkdirSync(join(root, name, ".."), { recursive: true });
    cpSync(name, join(root, name));
  }
  mkdirSync(join(root, "scripts"));
  cpSync(join("scripts", "compile-start.js"), join(root, "scripts", "compile-start.js"));
  symlinkSync(resolve("build"), join(root, "build"));
  for (const name of compiledNames()) rmSync(join(bundle, name));
  run(join("scripts", "compile-start.js"));
  file = join(bundle, compiledNames()[0]!);
  compiled = readFileSync(file);
});

afterAll(() => rmSync(root, { recursive: true }));

test("V8 takes the code of a start that this Node has compiled before", () => {
  expect(run("asks.mjs", ASKS)).toBe("true false\n");
});

test("V8 compiles the text itself where a flag of its own changes the code", () => {
  expect(run("--no-lazy", "asks.mjs", ASKS)).toBe("true true\n");
});

test.each([
  [
    "was made by a Node that was built in another way",
    () => Buffer.concat([Buffer.from("{}"), compiled.subarray(2)]),
    "false undefined",
  ],
  ["is cut off", () => compiled.subarray(0, -1_000), "true true"],
  ["is empty", () => Buffer.alloc(0), "false undefined"],
])("a program starts although the compiled code %s", (_, content, asked) => {
  writeFileSync(file, content());
  try {
    expect(run("asks.mjs", ASKS)).toBe(`${asked}\n`);
    expect(run("starts.mjs", STARTS)).toBe("ready\n");
  } finally {
    writeFileSync(file, compiled);
  }
});

test("a program starts without compiled code, and V8 then names the same place of an error", () => {
  const place = run("fails.mjs", FAILS);
  expect(place).toMatch(/\/start-\w+\.cjs:\d+:\d+\)?\n$/);
  rmSync(file);
  try {
    expect(run("starts.mjs", STARTS)).toBe("ready\n");
    expect(run("fails.mjs", FAILS)).toBe(place);
  } finally {
    writeFileSync(file, compiled);
  }
});

test("another text never runs with the compiled code of this one", () => {
  const [name] = startNames();
  appendFileSync(join(bundle, name!), " ");
  expect(run("asks.mjs", ASKS)).toBe("true true\n");
});

/** Whether there is code for this Node, and whether V8 rejects it. */
const ASKS = `
  import { readdirSync } from "node:fs";
  import { join } from "node:path";
  import { readCompiled, startScript } from "./dist/platform/start-script.js";
  const path = join(${JSON.stringify(bundle)}, readdirSync("dist/bundle").find((name) => /^start-.*[.]cjs$/.test(name)));
  const compiled = readCompiled(path);
  console.log(compiled !== undefined, startScript(path, compiled).cachedDataRejected);`;

const STARTS = `
  import { createServer } from "node:http";
  import { Upgrader } from "handover";
  const upg = new Upgrader();
  await upg.listen(createServer(), { port: 0, host: "127.0.0.1" });
  await upg.ready();
  console.log(upg.state);
  await upg.stop();`;

const FAILS = `
  import { Upgrader } from "handover";
  try { new Upgrader({ unknown: 1 }); } catch ({ stack }) { console.log(stack.split("\\n")[1]); }`;

/** Runs a program in the copy. */
function run(...words: string[]): string {
  const text = words.at(-1)!.includes("\n") ? words.pop()! : undefined;
  if (text !== undefined) writeFileSync(join(root, words.at(-1)!), text);
  // The child is that of a program that starts tests, not of the terminal of npm.
  const env = { ...process.env, NODE_NO_WARNINGS: "1" };
  return execFileSync(process.execPath, words, { cwd: root, encoding: "utf8", env });
}

function compiledNames(): string[] {
  return readdirSync(bundle).filter((name) => /^start-\w+\.cjs\.v/.test(name));
}

function startNames(): string[] {
  return readdirSync(bundle).filter((name) => /^start-\w+\.cjs$/.test(name));
}
