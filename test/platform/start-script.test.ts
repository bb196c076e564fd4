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
import { basename, join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const parent = mkdtempSync(join(tmpdir(), "handover-"));
const root = join(parent, "package");
const bundle = join(root, "dist", "bundle");

/** A copy of the package, whose compiled code is of the Node that runs the test. */
beforeAll(() => {
  cpSync(join("dist", "bundle"), bundle, { recursive: true });
  for (const name of ["package.json", join("dist", "platform", "start-script.js")]) {
    mkdirSync(join(root, name, ".."), { recursive: true });
    cpSync(name, join(root, name));
  }
  cpSync("scripts", join(root, "scripts"), { recursive: true });
  for (const name of ["build", "native"]) symlinkSync(resolve(name), join(root, name));
  for (const name of namesOf(/\.cjs\.v/)) rmSync(join(bundle, name));
  run(join("scripts", "compile-start.js"));
});

afterAll(() => rmSync(parent, { recursive: true }));

test("V8 takes the code of the command, of a start, and of what is loaded later, that this Node has compiled before", () => {
  expect(run("asks.mjs", ASKS)).toBe("main true false\nlater true false\nstart true false\n");
});

test("V8 compiles the text itself where a flag of its own changes the code", () => {
  expect(run("--no-lazy", "asks.mjs", ASKS)).toBe("main true true\nlater true true\nstart true true\n");
});

test("a first process, and a successor, compile none of the functions that they call until they accept", () => {
  const [start] = namesOf(/^start-\w+\.cjs$/);
  const program = `
    ${COMPILES}
    const { Upgrader } = runScript("${start}", runScript);
    const upg = new Upgrader({ probation: 1 });
    await upg.listen(createServer(), { port: 0, host: "127.0.0.1" });
    await upg.ready();
    const added = scripts.get("${start}").createCachedData().length - compiled.get("${start}").length;
    console.log(upg.generation, added < SMALLEST);
    if (upg.generation === 0) await upg.upgrade({ force: true });
    await upg.waitForParent();
    if (upg.generation === 0) await upg.exit;
    else await upg.stop();`;
  expect(run("compiles.mjs", program)).toBe("0 true\n1 true\n");
});

// From Node 22 on its own start fills the space that V8 has at first, or that space is larger.
test.runIf(process.version.startsWith("v20."))("V8 collects no memory before a first process accepts", () => {
  const bare = `
    import { createServer } from "node:http";
    const server = createServer();
    await new Promise((resolve) => server.listen({ port: 0, host: "127.0.0.1" }, resolve));
    ${SPACE}`;
  const own = `
    import { createServer } from "node:http";
    import { Upgrader } from "handover";
    const upg = new Upgrader();
    await upg.listen(createServer(), { port: 0, host: "127.0.0.1" });
    await upg.ready();
    ${SPACE}`;
  expect(run("own.mjs", own)).toBe(run("bare.mjs", bare));
});

test("a first process accepts before it has loaded node:module, which shows its process.kill() to those that import kill()", () => {
  const program = `
    import { createServer } from "node:http";
    import { kill } from "node:process";
    import { Upgrader } from "handover";
    const upg = new Upgrader();
    await upg.listen(createServer(), { port: 0, host: "127.0.0.1" });
    await upg.ready();
    console.log(process.moduleLoadList.includes("NativeModule module"), kill === process.kill);
    setImmediate(() => {
      console.log(kill === process.kill);
      process.exit();
    });`;
  expect(run("imports.mjs", program)).toBe("false false\ntrue\n");
});

const DAMAGES = [
  [
    "was made by a Node that was built in another way",
    (compiled: Buffer) => Buffer.concat([Buffer.from("{}"), compiled.subarray(2)]),
    "false undefined",
  ],
  ["is cut off", (compiled: Buffer) => compiled.subarray(0, -1_000), "true true"],
  ["is empty", () => Buffer.alloc(0), "false undefined"],
] as const;

test.each(DAMAGES)("a program starts, and is upgraded, although the compiled code %s", (_, damage, asked) => {
  const files = namesOf(/\.cjs\.v/).map((name) => join(bundle, name));
  const intact = files.map((file) => readFileSync(file));
  for (const [n, file] of files.entries()) writeFileSync(file, damage(intact[n]!));
  try {
    expect(run("asks.mjs", ASKS)).toBe(`main ${asked}\nlater ${asked}\nstart ${asked}\n`);
    expect(run("starts.mjs", STARTS)).toBe("0 ready\n1 ready\n");
  } finally {
    for (const [n, file] of files.entries()) writeFileSync(file, intact[n]!);
  }
});

test("a program starts, and is upgraded, without compiled code, and V8 then names the same place of an error", () => {
  const place = run("fails.mjs", FAILS);
  expect(place).toMatch(/\bdist\/bundle\/start-\w+\.cjs:\d+:\d+\)?\n$/);
  const bare = join(parent, "bare");
  cpSync(root, bare, { recursive: true });
  for (const name of namesOf(/\.cjs\.v/)) rmSync(join(bare, "dist", "bundle", name));
  expect(runIn(bare, "starts.mjs", STARTS)).toBe("0 ready\n1 ready\n");
  expect(basename(runIn(bare, "fails.mjs", FAILS))).toBe(basename(place));
});

/** Node 20 takes the name from the compiled code, the others from the file that is there. */
test("a stack trace does not name the directory in which the code was compiled", () => {
  const moved = join(parent, "moved");
  cpSync(root, moved, { recursive: true });
  const place = runIn(moved, "fails.mjs", FAILS);
  expect(place).toMatch(/^ +at .*[( ](\/.*\/moved|handover)\/dist\/bundle\/start-/);
});

test("another text never runs with the compiled code of this one", () => {
  for (const name of namesOf(/\.cjs$/)) appendFileSync(join(bundle, name), " ");
  expect(run("asks.mjs", ASKS)).toBe("main true true\nlater true true\nstart true true\n");
});

/** Runs the scripts of the package as `index.js` does, and keeps them. `SMALLEST`: bytes of a compiled function. */
const COMPILES = `
  const SMALLEST = 100;
  import { createServer } from "node:http";
  import { readCompiled, readScript } from "./dist/platform/start-script.js";
  const [scripts, compiled] = [new Map(), new Map()];
  const runScript = (name, given) => {
    const path = process.cwd() + "/dist/bundle/" + name;
    compiled.set(name, readCompiled(path));
    scripts.set(name, readScript(path, name, compiled.get(name)));
    return scripts.get(name).runInThisContext()(path, given);
  };`;

/** Prints the size of the space for new objects: the first collection doubles it. */
const SPACE = `
  const spaces = process.getBuiltinModule("node:v8").getHeapSpaceStatistics();
  console.log(spaces.find(({ space_name }) => space_name === "new_space").space_size);
  process.exit();`;

/** Whether there is code for this Node, and whether V8 rejects it. */
const ASKS = `
  import { readdirSync } from "node:fs";
  import { readCompiled, readScript } from "./dist/platform/start-script.js";
  import { basename } from "node:path";
  for (const name of readdirSync("dist/bundle", { recursive: true }).filter((one) => one.endsWith(".cjs")).sort()) {
    const compiled = readCompiled("dist/bundle/" + name);
    const { cachedDataRejected } = readScript("dist/bundle/" + name, name, compiled);
    console.log(basename(name).split("-")[0], compiled !== undefined, cachedDataRejected);
  }`;

/** The second process prints when the first one may exit, so that both have printed when the first one has. */
const STARTS = `
  import { createServer } from "node:http";
  import { Upgrader } from "handover";
  const upg = new Upgrader({ probation: 1 });
  await upg.listen(createServer(), { port: 0, host: "127.0.0.1" });
  await upg.ready();
  console.log(upg.generation, upg.state);
  if (upg.generation === 0) {
    await upg.upgrade({ force: true });
    await upg.exit;
  } else {
    await upg.waitForParent();
    await upg.stop();
  }`;

/** The stack of an error begins in the package if the program has not waited for the call. */
const FAILS = `
  import { Upgrader } from "handover";
  const upg = new Upgrader({ pidFile: "/nowhere/app.pid" });
  process.on("unhandledRejection", ({ stack }) => {
    console.log(stack.split("\\n")[1]);
    process.exit();
  });
  setImmediate(() => void upg.ready());`;

/** Runs a program in the copy. */
function run(...words: string[]): string {
  return runIn(root, ...words);
}

function runIn(cwd: string, ...words: string[]): string {
  const text = words.at(-1)!.includes("\n") ? words.pop()! : undefined;
  if (text !== undefined) writeFileSync(join(cwd, words.at(-1)!), text);
  // The child is that of a program that starts tests, not of the terminal of npm.
  const env = { ...process.env, NODE_NO_WARNINGS: "1" };
  return execFileSync(process.execPath, words, { cwd, encoding: "utf8", env });
}

function namesOf(pattern: RegExp): string[] {
  return readdirSync(bundle, { recursive: true, encoding: "utf8" }).filter((name) => pattern.test(name));
}
