import { mkdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeEach, expect, test } from "vitest";
import { describeUncaught } from "../../dist/process/uncaught-error.js";
import { handover, jsonLines } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const REPORT = new URL("../fixtures/report.js", import.meta.url).href;

/** A service that prints its events; `begin` runs before it is ready. */
const program = (begin = "", options = ""): string => `
  import { createServer } from "node:http";
  import { report, say } from ${JSON.stringify(REPORT)};
  import { Upgrader } from "handover";
  const upg = new Upgrader({ pidFile: "pid", probation: 200, ${options} });
  report(upg);
  await upg.listen(createServer((_, response) => response.end()), { port: 0, host: "127.0.0.1" });
  ${begin}
  await upg.ready();
  say(upg, "accepting");
  say(upg, "exited", { outcome: await upg.exit });`;

/** The same in CommonJS. */
const commonJs = (begin = ""): string => `
  ${begin}
  const { Upgrader } = require("handover");
  const upg = new Upgrader({ pidFile: "pid", probation: 200 });
  import(${JSON.stringify(REPORT)}).then(async ({ report, say }) => {
    report(upg);
    await upg.ready();
    say(upg, "accepting");
    say(upg, "exited", { outcome: await upg.exit });
  });`;

const THROWS = 'function open() { throw new TypeError("no database"); }';

let home: string;

beforeEach(() => {
  home = realpathSync(temporaryDirectory());
  mkdirSync(join(home, "node_modules"));
  symlinkSync(PACKAGE, join(home, "node_modules", "handover"));
  write("package.json", '{ "type": "module" }');
});

const write = (name: string, text: string): void => writeFileSync(join(home, name), text);

async function start(name: string, text: string, options: { args?: string[]; env?: NodeJS.ProcessEnv } = {}) {
  write(name, text);
  const command = [process.execPath, ...(options.args ?? []), name];
  const service = Service.start("", { command, cwd: home, env: { PWD: home, ...options.env } });
  await service.until("accepting");
  return service;
}

const upgrade = (...options: string[]) => handover("upgrade", "--pid-file", join(home, "pid"), ...options);

/** The error of an upgrade to this program, in every place that has it. */
async function failureOf(service: Service, name: string, text: string | undefined): Promise<string> {
  if (text === undefined) rmSync(join(home, name));
  else write(name, text);
  const { stderr, code } = await upgrade();
  expect(code).toBe(1);
  const message = /^handover: (.*); pid \d+ keeps serving\n$/.exec(stderr)?.[1];
  const failed = await service.until("failed");
  expect(failed).toMatchObject({ code: "ERR_CHILD_EXITED", message });
  expect(await service.until("recorded")).toMatchObject({ record: { reason: message } });
  return message!;
}

test.each([
  ["a syntax error", "const a = ;", /^SyntaxError: Unexpected token ';'; its stderr is a pipe$/],
  [
    "a missing file",
    'import "./gone.js";',
    /^Error \[ERR_MODULE_NOT_FOUND\]: Cannot find module '.*gone\.js' imported from .*server\.js; its stderr is a pipe$/,
  ],
  [
    "a missing package",
    'import "gone";',
    /^Error \[ERR_MODULE_NOT_FOUND\]: Cannot find package 'gone' imported from .*server\.js; its stderr is a pipe$/,
  ],
  [
    "a name that a module does not export",
    'import { gone } from "node:fs";',
    /^SyntaxError: .* does not provide an export named 'gone' \(at file:.*server\.js:1\)$/,
  ],
  [
    "an error before it imports handover",
    `${THROWS} open();`,
    /^TypeError: no database \(at file:.*server\.js:1:\d+\)$/,
  ],
  ["no file at all", undefined, /^Error \[?.*Cannot find module '.*server\.js'/],
])("an upgrade names the error of an ES module with %s", async (_, text, error) => {
  const service = await start("server.js", program());
  const message = await failureOf(service, "server.js", text);
  const [, what] = /exited with code 1; its last uncaught error: (.*)$/.exec(message)!;
  expect(what).toMatch(error);
});

test.each([
  [
    "throws",
    `${THROWS} if (upg.hasParent) open();`,
    "TypeError: no database \\(at file:.*server\\.js:8:.*\\)",
  ],
  [
    "leaves a rejection unhandled",
    `if (upg.hasParent) { Promise.reject(new RangeError("lost")); await new Promise(() => {}); }`,
    "RangeError: lost \\(at file:.*server\\.js:8:.*\\)",
  ],
  ["throws a string", `if (upg.hasParent) throw "a word";`, ".*a word.*"],
  [
    "cannot listen",
    'if (upg.hasParent) await upg.listen(createServer(), { port: 0, host: "192.0.2.1" });',
    "HandoverError \\[ERR_LISTEN\\]: cannot listen .*EADDRNOTAVAIL.*",
  ],
  [
    "exits in a listener of uncaughtException",
    `process.on("uncaughtException", () => process.exit(1));
     if (upg.hasParent) { setImmediate(() => { throw new Error("late"); }); await new Promise(() => {}); }`,
    "Error: late \\(at .*\\)",
  ],
])("an upgrade names the error of a successor that %s", async (_, begin, error) => {
  const service = await start("server.js", program(begin));
  const message = await failureOf(service, "server.js", program(begin));
  expect(message).toMatch(new RegExp(`exited with code 1; its last uncaught error: ${error}`));
});

test("an upgrade names the exit code of a successor that exits by itself, and its stderr", async () => {
  const begin = "if (upg.hasParent) process.exit(3);";
  const service = await start("server.js", program(begin));
  const message = await failureOf(service, "server.js", program(begin));
  expect(message).toMatch(/^the successor \(pid \d+\) exited with code 3; its stderr is a pipe$/);
});

test("a rollback names the error of the successor that died on probation", async () => {
  const begin =
    'if (upg.hasParent) upg.once("ready", () => setImmediate(() => { throw new Error("late"); }));';
  const service = await start("server.js", program(begin));
  const { stderr } = await upgrade();
  expect(stderr).toMatch(
    /^handover: rolled back: .*exited with code 1; its last uncaught error: Error: late/,
  );
  expect((await service.until("rollback"))["message"]).toMatch(/Error: late \(at .*server\.js:8:\d+\)$/);
});

test("a CommonJS program reports from when it has loaded handover; before that its stderr is named", async () => {
  const service = await start("server.cjs", commonJs());
  const before = await failureOf(service, "server.cjs", commonJs('require("./gone.cjs");'));
  expect(before).toMatch(/^the successor \(pid \d+\) exited with code 1; its stderr is a pipe$/);
  write("server.cjs", `${commonJs()}\n${THROWS} open();`);
  expect((await upgrade()).stderr).toMatch(
    /last uncaught error: TypeError: no database \(at .*server\.cjs:\d+:/,
  );
});

test("a CommonJS program that is started with --import reports a syntax error with its place", async () => {
  write("hook.js", "");
  const service = await start("server.cjs", commonJs(), { args: ["--import", "./hook.js"] });
  const message = await failureOf(service, "server.cjs", "const a = ;");
  expect(message).toMatch(/last uncaught error: SyntaxError: Unexpected token ';' \(at .*server\.cjs:1\)$/);
});

test("a successor behind a wrapper reports as well", async () => {
  const wrapper = 'spawn: { command: "sh", args: ["-c", `${process.execPath} server.js; true`] }';
  const begin = `${THROWS} if (upg.hasParent) open();`;
  const service = await start("server.js", program(begin, wrapper));
  const message = await failureOf(service, "server.js", program(begin, wrapper));
  expect(message).toMatch(
    /^the successor \(pid \d+\) exited.*; its last uncaught error: TypeError: no database/,
  );
});

test("an error is cut to 4 KiB, and its control characters are shown, on a terminal and in JSON", async () => {
  const begin = `if (upg.hasParent) throw new Error("\\u001b[31mred\\u0007\\n" + '"'.repeat(20_000));`;
  const service = await start("server.js", program(begin));
  const message = await failureOf(service, "server.js", program(begin));
  const [, error] = /its last uncaught error: (.*)$/.exec(message)!;
  expect(error).toMatch(/^Error: \\u001b\[31mred\\u0007\\n"+… \(at .*server\.js:8:\d+\)$/);
  expect(Buffer.byteLength(error!)).toBe(4096);
  // Ten of them fit in one line of the control socket.
  for (let time = 0; time < 10; time++) expect(await upgrade("--json")).toMatchObject({ code: 1 });
  const [answer] = jsonLines(await upgrade("--json"));
  const last = jsonLines(await upgrade("--json")).at(-1)!;
  expect(answer).toMatchObject({ phase: "spawned" });
  expect(last["message"]).toContain('\\u001b[31mred\\u0007\\n"');
  const [status] = jsonLines(await handover("status", "--pid-file", join(home, "pid"), "--json"));
  expect(status!["upgrades"]).toHaveLength(10);
});

const MARK = "--import=data:text/javascript;handover,";

test("the preload leaves no trace in the program, in its threads and in the processes that it starts", async () => {
  const begin = `
    import { execFileSync, fork } from "node:child_process";
    import { once } from "node:events";
    import { readFileSync } from "node:fs";
    import { Worker } from "node:worker_threads";
    const child = execFileSync(process.execPath, ["-p", "JSON.stringify(process.env)"], { encoding: "utf8" });
    const [forked] = await once(fork("other.cjs"), "message");
    const trace = [process.execArgv, process.argv, process.env.NODE_OPTIONS, child, forked];
    const [thread] = upg.generation === 2 ? await once(new Worker("./other.cjs"), "message") : [];
    const environ = readFileSync("/proc/self/environ", "utf8");
    say(upg, "trace", { trace: JSON.stringify(trace), thread, environ });
    const count = () => process.listenerCount("uncaughtExceptionMonitor");
    upg.on("recorded", () => setImmediate(() => say(upg, "listeners", { count: count() })));`;
  write(
    "other.cjs",
    `const { parentPort } = require("node:worker_threads");
     const said = [process.execArgv, process.env.NODE_OPTIONS, process.env.HANDOVER_CHANNEL];
     if (parentPort) parentPort.postMessage(said); else { process.send(said); process.disconnect(); }`,
  );
  const service = await start("server.js", program(begin), { env: { NODE_OPTIONS: "--no-deprecation" } });
  const first = await service.until("trace");
  for (const generation of [1, 2]) {
    await service.replace();
    const next = await service.until("trace", { generation });
    expect(next["trace"]).toBe(first["trace"]);
    // The kernel shows how a process was started: by one preload, however many generations there were.
    expect(String(next["environ"]).split(MARK)).toHaveLength(2);
    expect(await service.until("listeners", { generation })).toMatchObject({ count: 0 });
  }
  expect((await service.until("trace", { generation: 2 }))["thread"]).toEqual([[], "--no-deprecation", null]);
  expect(service.noise).toBe("");
});

test("a program that has worker threads is started without the preload, which would load their files otherwise", async () => {
  const begin = `
    import { once } from "node:events";
    import { readFileSync } from "node:fs";
    import { Worker } from "node:worker_threads";
    const [words] = await once(new Worker("./threads/old.worker"), "message");
    say(upg, "thread", { words, environ: readFileSync("/proc/self/environ", "utf8") });`;
  mkdirSync(join(home, "threads"));
  write("threads/package.json", "{}");
  write("threads/old.worker", 'require("node:worker_threads").parentPort.postMessage(module.parent);');
  const service = await start("server.js", program(begin));
  await service.replace();
  const { words, environ } = await service.until("thread", { generation: 1 });
  expect(words).toBeNull();
  expect(environ).not.toContain(MARK);
});

test.each([
  [{ message: "x", name: "Error", code: "E" }, "Error [E]: x"],
  [{ message: "listen E", name: "Error", code: "E" }, "Error: listen E"],
  [{ message: "x", stack: "Error\n    at node:fs:1:2\n    at f (/a b.js:1:2)" }, "x (at /a b.js:1:2)"],
  [{ message: "x", stack: "/a.js:7\nlet ;\n    ^\nSyntaxError: x" }, "x (at /a.js:7)"],
  [{ message: "‮ x\u009b" }, "\\u202e x\\u009b"],
])("describes %j in one line", (error, line) => {
  expect(describeUncaught(error)).toBe(line);
});
