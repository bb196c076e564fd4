import { execFileSync, spawnSync, type StdioOptions } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const project = mkdtempSync(join(tmpdir(), "handover-consumer-"));
const installed = join(project, "node_modules", "handover");

/** Of a project that has installed the package, as far as that is possible without a registry. */
beforeAll(() => {
  run(process.execPath, ["native/prebuild.js"], ROOT);
  run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", project], ROOT);
  const tarball = readdirSync(project).find((name) => name.endsWith(".tgz"))!;
  mkdirSync(installed, { recursive: true });
  run("tar", ["-xzf", tarball, "-C", installed, "--strip-components", "1"]);
  // A copy: make cannot include a directory of this clone whose path has a blank.
  const headers = join("node_modules", "node-addon-api");
  cpSync(join(ROOT, headers), join(project, headers), { recursive: true });
});
afterAll(() => rmSync(project, { recursive: true }));

const FULL_OPTIONS = 'pidFile: "app.pid", controlSocket: "control.sock"';

test.each([
  ["import", "consumer.mjs", 'import { HandoverError, Upgrader } from "handover";'],
  ["require()", "consumer.cjs", 'const { HandoverError, Upgrader } = require("handover");'],
])("the package works by %s", (_, name, load) => {
  const program = `${load}
    const upg = new Upgrader();
    const refused = new HandoverError("ERR_OPTION", "no");
    upg.ready().then(() => upg.stop()).then(() => console.log(upg.state, refused.code));`;
  writeFileSync(join(project, name), program);
  expect(run(process.execPath, [name])).toBe("exited ERR_OPTION\n");
});

/** The compiler, its resolution and its modules, and the type of the consumer. Only TypeScript before 7 has `node10`. */
const RESOLUTIONS = [
  ["typescript-node10", "node10", "commonjs", "commonjs"],
  ["typescript-node10", "node10", "esnext", "module"],
  ["typescript-node10", "node16", "node16", "commonjs"],
  ["typescript-node10", "node16", "node16", "module"],
  ["typescript-node10", "nodenext", "nodenext", "commonjs"],
  ["typescript-node10", "nodenext", "nodenext", "module"],
  ["typescript-node10", "bundler", "preserve", "module"],
  ["typescript", "node16", "node16", "commonjs"],
  ["typescript", "nodenext", "nodenext", "commonjs"],
  ["typescript", "nodenext", "nodenext", "module"],
  ["typescript", "bundler", "preserve", "module"],
] as const;

test.each(RESOLUTIONS)(
  "every entry has types for %s with the resolution %s and the modules %s in a consumer of the type %s",
  (compiler, moduleResolution, module, type) => {
    const directory = join(project, "types", `${compiler}-${moduleResolution}-${type}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "package.json"), JSON.stringify({ type }));
    writeFileSync(join(directory, "consumer.ts"), CONSUMER);
    const compilerOptions = {
      module,
      moduleResolution,
      target: "es2022",
      strict: true,
      // The slower compiler checks only what the consumer uses.
      skipLibCheck: compiler === "typescript-node10",
      types: ["node"],
      typeRoots: [join(ROOT, "node_modules", "@types")],
    };
    writeFileSync(
      join(directory, "tsconfig.json"),
      JSON.stringify({ compilerOptions, files: ["consumer.ts"] }),
    );
    expect(run(process.execPath, [join(ROOT, "node_modules", compiler, "bin", "tsc")], directory)).toBe("");
    expect(run(process.execPath, ["consumer.js"], directory)).toBe(
      "ready function function function ERR_OPTION true\n",
    );
  },
);

/** Uses every entry, and a wrong type of each, which would pass if the types were not found. */
const CONSUMER = `
import { createServer } from "node:http";
import { HandoverError, Upgrader } from "handover";
import type { ErrorCode, RefusalCode, StageOptions, Staged, UpgradeResult } from "handover";
import type { ready } from "handover/auto";
import { etcd } from "handover/etcd";
import { kubernetesLease } from "handover/kubernetes";
import { postgres } from "handover/postgres";
import { supervise } from "handover/supervisor";
import { prometheus } from "handover/metrics";
import { Upgrader as StandIn } from "handover/testing";
import { socketIo } from "handover/socket.io";
import { webSockets } from "handover/ws";

export async function upgrade(upg: Upgrader): Promise<void> {
  upg.on("failed", ({ error }) => {
    const code: ErrorCode | RefusalCode = error.code;
    return code;
  });
  const address = await upg.listen(createServer(), { port: 8080, name: "main" });
  // @ts-expect-error: an address is not a number
  const wrong: number = address;
  const result: UpgradeResult = await upg.upgrade();
  const how: "confirmed" | "rolledBack" = await result.settled;
  console.log(wrong, how);
  const staging: StageOptions = { ttl: 1_000 };
  const staged: Staged = await upg.stage(staging);
  // @ts-expect-error: there may be none
  const unstaged: Staged = upg.unstage();
  // @ts-expect-error: there is no such option
  await upg.upgrade({ dryRun: true });
  // @ts-expect-error: there is no such option
  new Upgrader({ pidfile: "app.pid" });
  // @ts-expect-error: the version is missing
  webSockets(upg, {} as never, {});
  // @ts-expect-error: the server is missing
  socketIo(upg);
  // @ts-expect-error: the registry is missing
  prometheus(upg);
  // @ts-expect-error: there is no such option
  etcd({ servers: [] });
  // @ts-expect-error: there is no such option
  kubernetesLease({ nam: "a" });
  // @ts-expect-error: it is a string
  postgres({ url: 1 });
  // @ts-expect-error: the program is missing
  void supervise({});
  // @ts-expect-error: it is a function
  const autoReady: number = undefined as unknown as typeof ready;
  // @ts-expect-error: it is a number
  const no: string = new StandIn().generation;
}

async function main(): Promise<void> {
  const upg = new StandIn();
  await upg.ready();
  const { code } = new HandoverError("ERR_OPTION", "no");
  const refused = await upg.listen(createServer(), { port: -1 }).catch((error: unknown) => error);
  console.log(upg.state, typeof webSockets, typeof socketIo, typeof prometheus, code, refused instanceof HandoverError);
  await upg.stop();
}

void main();
`;

test("the command of the package needs no other package", () => {
  expect(run(process.execPath, [join(installed, "bin", "handover.js"), "doctor"])).toMatch(
    /, 0 warnings, \d+ ok\n$/,
  );
});

test("the package contains every entry with its types, and no test", () => {
  const files = filesOf(installed);
  const { exports, bin } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as {
    exports: Record<string, object | string>;
    bin: object;
  };
  const entries = [
    ".",
    "./ws",
    "./socket.io",
    "./metrics",
    "./testing",
    "./supervisor",
    "./auto",
    "./postgres",
    "./kubernetes",
    "./etcd",
    "./package.json",
  ];
  expect(Object.keys(exports)).toEqual(entries);
  const named = [...JSON.stringify([exports, bin]).matchAll(/"(?:\.\/)?([^"]+\.(?:ts|js|json))"/g)].map(
    ([, name]) => name,
  );
  // The supervisor and auto have no second form for bundlers.
  expect(new Set(named).size).toBe(8 * 5 + 2 * 4 + 2);
  expect(files).toEqual(expect.arrayContaining(named));
  expect(files.filter((name) => /^test\/|\.test\.|fixture|^bench|^scripts/.test(name))).toEqual([]);
});

test("the package consists of few modules, and each has a source map to a source that is there", () => {
  const files = filesOf(installed);
  const modules = files.filter((name) => /^dist\/.*\.c?js$/.test(name) && !name.startsWith("dist/cjs/"));
  expect(modules.filter((name) => !name.startsWith("dist/bundle/"))).toEqual([]);
  for (const name of modules) {
    // Commander is bundled with the command.
    const { sources } = JSON.parse(readFileSync(join(installed, `${name}.map`), "utf8")) as {
      sources: string[];
    };
    const own = sources.filter((source) => !source.includes("/node_modules/commander/"));
    expect(files).toEqual(expect.arrayContaining(own.map((source) => join(dirname(name), source))));
  }
});

/** All need what a start needs. Those for WebSockets share some with each other and with `handover/auto`. */
test.each([
  ["index", 2],
  ["ws", 5],
  ["socketio", 6],
  ["metrics", 4],
  ["testing", 4],
])("the entry %s of the package reads %d files", (name, count) => {
  const files = new Set([`${name}.js`]);
  for (const file of files) {
    const text = readFileSync(join(installed, "dist", "bundle", file), "utf8");
    for (const [, path] of text.matchAll(/(?:from ?"\.\/|import ?"\.\/|runScript\(")([^"]+)"/g))
      files.add(path!);
  }
  expect(files.size).toBe(count);
});

/** A start that reads one of the later functions loads them all, and takes a quarter longer. */
test.each([
  ["without options", "", {}],
  ["with a PID file and a control socket", FULL_OPTIONS, {}],
  ["under systemd", "", { NOTIFY_SOCKET: "@handover-test-nobody", WATCHDOG_USEC: "10000000" }],
])("what a start does not need is loaded right after ready(), once: %s", (_, options, env) => {
  const file = laterFile();
  const text = readFileSync(file, "utf8");
  writeFileSync(file, text.replace('{"use strict";', '{"use strict";console.log("later");'));
  const program = `
    import { createServer } from "node:http";
    import { http, Upgrader } from "handover";
    const upg = new Upgrader({ ${options} });
    void upg.role("leader", { acquire() {}, release() {} });
    const connections = http({ version: 1, save: () => 1 });
    await upg.listen(createServer(), { port: 0, host: "127.0.0.1", connections });
    await upg.ready();
    console.log("ready");
    setImmediate(() => setImmediate(() => { console.log("next turn"); void upg.stop(); }));`;
  writeFileSync(join(project, "starts.mjs"), program);
  try {
    expect(run(process.execPath, ["starts.mjs"], project, { ...process.env, ...env })).toBe(
      "ready\nlater\nnext turn\n",
    );
  } finally {
    writeFileSync(file, text);
  }
});

test("a process does not mix its modules with those of a package that was replaced while it started", () => {
  const file = laterFile();
  // The file of another version has another name.
  renameSync(file, `${file}.other`);
  const program = `
    import { Upgrader } from "handover";
    const upg = new Upgrader();
    process.on("uncaughtException", ({ code, message }) => { console.log(code, message); process.exit(1); });
    await upg.ready();
    console.log("ready");`;
  writeFileSync(join(project, "replaced.mjs"), program);
  try {
    const { status, stdout } = spawnSync(process.execPath, ["replaced.mjs"], {
      cwd: project,
      encoding: "utf8",
    });
    expect(stdout).toMatch(/^ready\nERR_NOT_SUPPORTED cannot load the rest of handover: .* was replaced/);
    expect(status).toBe(1);
  } finally {
    renameSync(`${file}.other`, file);
  }
});

test("all entries share one instance of everything, by import and by require()", () => {
  const program = `
    import { createRequire } from "node:module";
    const require = createRequire(import.meta.url);
    const names = ["handover", "handover/ws", "handover/socket.io", "handover/metrics", "handover/testing"];
    const [main, ws, , , testing] = await Promise.all(names.map((name) => import(name)));
    const isSame = (a, b) => Object.keys(a).every((key) => a[key] === b[key]);
    const imported = await Promise.all(names.map(async (name) => isSame(await import(name), require(name))));
    const errors = [
      () => ws.webSockets({}, {}, { unknown: 1 }),
      () => new testing.Upgrader({ unknown: 1 }),
      () => new (require("handover").Upgrader)({ unknown: 1 }),
    ].map((wrong) => { try { wrong(); } catch (error) { return error instanceof main.HandoverError; } });
    console.log(JSON.stringify([imported, errors]));`;
  writeFileSync(join(project, "instances.mjs"), program);
  expect(JSON.parse(run(process.execPath, ["instances.mjs"]))).toEqual([
    [true, true, true, true, true],
    [true, true, true],
  ]);
});

test("a stack trace names the line of a source of the package", () => {
  const program = `
    import { Upgrader } from "handover";
    try { new Upgrader({ unknown: 1 }); } catch ({ stack }) { console.log(stack); }`;
  writeFileSync(join(project, "throws.mjs"), program);
  const stack = run(process.execPath, ["--enable-source-maps", "throws.mjs"]);
  const [, file, line] = /at (?:\S+ \()?(?:file:\/\/)?(\S+\/src\/\S+\.ts):(\d+):\d+/.exec(stack)!;
  expect(readFileSync(file!, "utf8").split("\n")[Number(line) - 1]).toContain("new HandoverError(");
});

test("the package contains the sources of its addon, and has no install script", () => {
  const files = filesOf(installed);
  for (const name of ["LICENSE", "package.json", "binding.gyp", "native/addon.cc"]) {
    expect(files).toContain(name);
  }
  const script =
    "const { scripts, gypfile } = require('./package.json'); console.log(scripts.install, gypfile)";
  expect(run(process.execPath, ["-e", script], installed)).toBe("undefined false\n");
});

test("a package without its addon is refused in new Upgrader(), with the command that builds it", () => {
  const other = join(project, "a blank and ü");
  const root = join(other, "node_modules", "handover");
  cpSync(installed, root, { recursive: true });
  rmSync(join(root, "prebuilds"), { recursive: true });
  const program = `import { Upgrader } from "handover";
    try { new Upgrader(); console.log("works"); } catch ({ code, message }) { console.log(code, message); }
    process.exit();`;
  const answer = (): string => run(process.execPath, ["--input-type=module", "-e", program], other);
  const [, command] = /^ERR_NOT_SUPPORTED cannot load the addon .* or .*; to build it, .*: (npm .*)\n$/.exec(
    answer(),
  )!;
  run("/bin/sh", ["-c", `${command} >/dev/null`], project, withoutDownload(other));
  expect(answer()).toBe("works\n");
});

/**
 * The environment of a user without settings of npm, who can download no headers of Node. If none are installed with this
 * Node, the build has to download them.
 */
function withoutDownload(HOME: string): NodeJS.ProcessEnv {
  if (!existsSync(join(dirname(dirname(process.execPath)), "include/node/node_version.h")))
    return process.env;
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith("npm_"));
  return { ...Object.fromEntries(others), HOME, npm_config_dist_url: "http://127.0.0.1:1" };
}

function filesOf(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length).replace(/^\//, ""));
}

function run(command: string, args: string[], cwd = project, env = process.env): string {
  const stdio: StdioOptions = ["ignore", "pipe", "inherit"];
  return execFileSync(command, args, { cwd, env, encoding: "utf8", stdio });
}

function laterFile(): string {
  const bundle = join(installed, "dist", "bundle");
  return join(
    bundle,
    readdirSync(bundle).find((name) => /^later-\w+\.cjs$/.test(name))!,
  );
}
