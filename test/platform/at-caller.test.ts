import { spawnSync } from "node:child_process";
import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type * as etcd from "../../dist/etcd/index.js";
import type * as handover from "../../dist/index.js";
import type * as kubernetes from "../../dist/kubernetes/index.js";
import type * as metrics from "../../dist/metrics/index.js";
import type * as postgres from "../../dist/postgres/index.js";
import type * as socketIo from "../../dist/socketio/index.js";
import type * as supervisor from "../../dist/supervisor/index.js";
import type * as testing from "../../dist/testing/index.js";
import type * as webSockets from "../../dist/websocket/index.js";
import { temporaryDirectory } from "../support/service.js";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));

/** What a program prints on stderr, as Node prints an error that is not caught; in a directory that is called `home`. */
function printed(name: string, lines: readonly string[], ...options: string[]): string {
  const home = realpathSync(temporaryDirectory());
  mkdirSync(join(home, "node_modules"));
  symlinkSync(PACKAGE, join(home, "node_modules", "handover"));
  writeFileSync(join(home, name), lines.join("\n"));
  const { stderr, status } = spawnSync(process.execPath, [...options, name], {
    cwd: home,
    encoding: "utf8",
    timeout: 20_000,
  });
  expect(status).toBe(1);
  return stderr.replaceAll(home, "home");
}

/** The functions of a module, an object or a class: for each a call with an argument that it refuses. */
type Calls<T> = { [K in keyof T as T[K] extends (...args: never[]) => unknown ? K : never]: string | null };
/** Without those of an EventEmitter. */
type Own<T> = Omit<T, keyof NodeJS.EventEmitter>;

/** No argument makes it throw an error that has a code. */
const NONE = null;

const UPGRADER: Calls<Own<handover.Upgrader>> = {
  listen: "upg.listen(1)",
  bind: "upg.bind(1)",
  addConnections: "upg.addConnections(1)",
  slot: "upg.slot('', { version: 1 })",
  units: "upg.units('', {})",
  role: "upg.role('', {})",
  stage: "upg.stage({ ttl: -1 })",
  ready: NONE,
  upgrade: NONE,
  rehearse: NONE,
  unstage: NONE,
  stop: NONE,
  waitForParent: NONE,
};
const FDS: Calls<handover.Fds> = {
  file: "upg.fds.file('')",
  files: NONE,
  addFile: "upg.fds.addFile('a', 1e6)",
  conn: "upg.fds.conn('')",
  addConn: "upg.fds.addConn('a', 1)",
  listener: "upg.fds.listener('')",
  addListener: "upg.fds.addListener('a', 0)",
  packetConn: "upg.fds.packetConn('')",
  addPacketConn: "upg.fds.addPacketConn('a', 0)",
};
const SLOT: Calls<handover.Slot<unknown>> = {
  initiate: "slot.initiate(1, { timeout: -1 })",
  subscribe: "slot.subscribe(1)",
  complete: NONE,
  peek: NONE,
};
const UNITS: Calls<handover.Units<unknown, unknown>> = {
  start: "units.start('')",
  where: "units.where('')",
  drain: "units.drain({ timeout: -1 })",
  release: NONE,
  get: NONE,
};
const HANDOVER: Calls<typeof handover> = { http: "http({ version: -1 })" };
const JSON_CODEC: Calls<handover.Codec> = {
  encode: "jsonCodec.encode(new Map())",
  decode: "jsonCodec.decode(Buffer.from('{'))",
};
const V8_CODEC: Calls<handover.Codec> = {
  encode: "v8Codec.encode(() => {})",
  decode: "v8Codec.decode(Buffer.from('{'))",
};
const WEB_SOCKETS: Calls<typeof webSockets> = { webSockets: "webSockets(upg, 1, { version: 1 })" };
const SOCKET_IO: Calls<typeof socketIo> = { socketIo: "socketIo(upg, 1)" };
const METRICS: Calls<typeof metrics> = { prometheus: NONE, openTelemetry: NONE };
const POSTGRES: Calls<typeof postgres> = {
  postgres: "postgres({ service: 'a' })",
  migrate: "migrate({ url: 'a' })",
  migrationText: NONE,
};
const ETCD: Calls<typeof etcd> = { etcd: "etcd({ service: 'a', endpoints: 'b' })" };
const KUBERNETES: Calls<typeof kubernetes> = { kubernetesLease: "kubernetesLease({ service: 1 })" };
const SUPERVISOR: Calls<typeof supervisor> = {
  supervise: "supervise({ program: 1 })",
  run: NONE,
};
const TESTING: Calls<Own<testing.Upgrader>> = {
  ...UPGRADER,
  upgrade: "upg.upgrade()",
  rehearse: "upg.rehearse()",
  stage: "upg.stage()",
};

/** The entries of the package, what a program imports from each, and its calls. */
const ENTRIES: readonly [entry: string, imported: string, ...calls: Calls<object>[]][] = [
  ["handover", "Upgrader", { constructor: "new Upgrader({ pidfile: 1 })" }, UPGRADER, FDS],
  ["handover", "Upgrader", SLOT, UNITS],
  ["handover", "http, jsonCodec, v8Codec", HANDOVER, JSON_CODEC, V8_CODEC],
  ["handover/ws", "webSockets", WEB_SOCKETS],
  ["handover/socket.io", "socketIo", SOCKET_IO],
  ["handover/metrics", "prometheus", METRICS],
  ["handover/postgres", "postgres, migrate", POSTGRES],
  ["handover/etcd", "etcd", ETCD],
  ["handover/kubernetes", "kubernetesLease", KUBERNETES],
  ["handover/supervisor", "supervise", SUPERVISOR],
  ["handover/testing", "Upgrader", { constructor: "new Upgrader({ pidfile: 1 })" }, TESTING],
];

/** By what a call uses. */
const SETUP: Record<string, string> = {
  upg: "const upg = new Upgrader({ controlSocket: false });",
  slot: "const slot = upg.slot('a', { version: 1 });",
  units: "const units = upg.units('a', { version: 1, run() {}, freeze() {} });",
};

const CALLS = ENTRIES.flatMap(([entry, imported, ...calls]) =>
  calls.flatMap((some) =>
    Object.values(some)
      .filter((call) => call !== NONE)
      .map((call: string) => [call, entry, imported] as const),
  ),
);

/** The lines of a program before the call. */
function before(
  call: string,
  entry: string,
  imported: string,
  load: (names: string, entry: string) => string,
) {
  const needs = ["slot", "units"].filter((name) => call.startsWith(`${name}.`));
  if (needs.length > 0 || /\bupg\b/.test(call)) needs.unshift("upg");
  const lines = needs.map((name) => SETUP[name]!);
  if (lines.length > 0 && !imported.includes("Upgrader")) lines.unshift(load("Upgrader", "handover"));
  return [load(imported, entry), ...lines, ""];
}

const PID_FILE = 'const upg = new Upgrader({ pidFile: "/nowhere/app.pid" });';

describe("an error of handover that a program does not catch", () => {
  test.each(CALLS)("shows the line of the program with %s of %s", (call, entry, imported) => {
    const lines = before(call, entry, imported, (names, name) => `import { ${names} } from "${name}";`);
    const text = printed("program.mjs", [...lines, `await ${call};`]);
    const place = `file://home/program.mjs:${lines.length + 1}`;
    expect(text.split("\n").slice(0, 2)).toEqual([place, `await ${call};`]);
    // Its cause, which follows, is the system's.
    const [error] = text.split("[cause]");
    expect(error).toMatch(/HandoverError\]?: /);
    expect(error!.match(/^ {4}at .*$/m)?.[0]).toContain(place);
    expect(error).not.toContain("dist/bundle");
  });

  // A rejection of `initiate()` that nobody waits for is a warning.
  const uncaught = CALLS.filter(([call]) => call !== SLOT.initiate);

  test.each(uncaught)("shows no line of the package with %s of %s in CommonJS", (call, entry, imported) => {
    const lines = before(call, entry, imported, (names, name) => `const { ${names} } = require("${name}");`);
    const text = printed("program.cjs", [...lines, `${call};`]);
    const [error] = text.split("[cause]");
    expect(error!.match(/^ {4}at .*$/m)?.[0]).toContain(`home/program.cjs:${lines.length + 1}:`);
    expect(error).not.toContain("dist/bundle");
  });

  test("shows the line of the program that has waited for ready()", () => {
    const lines = ['import { Upgrader } from "handover";', PID_FILE, "await upg.ready();"];
    const text = printed("program.mjs", lines);
    expect(text.split("\n").slice(0, 2)).toEqual(["file://home/program.mjs:3", lines[2]]);
    expect(text.split("[cause]")[0]).not.toContain("dist/bundle");
  });

  test("shows the line of a callback which has called handover", () => {
    const text = printed("program.mjs", [
      'import { Upgrader, http } from "handover";',
      "const upg = new Upgrader({ controlSocket: false });",
      "const run = () => http({ version: -1 });",
      'const units = upg.units("a", { version: 1, run, freeze() {} });',
      "await upg.ready();",
      'await units.start("b");',
    ]);
    expect(text.match(/^ {4}at .*$/m)?.[0]).toContain("file://home/program.mjs:3");
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
