import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, realpathSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, test } from "vitest";
import { freePort } from "../support/port.js";
import { rootOfNamespace, Sandbox } from "../support/sandbox.js";
import { Service, temporaryDirectory, type Line, type StartOptions } from "../support/service.js";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const FIXTURE = new URL("../fixtures/reports-start.js", import.meta.url).href;
const REPORT = new URL("../fixtures/report.js", import.meta.url).href;
/** Prints its words, as Node has them. */
const WITHOUT_PROC = `
  import { basename } from "node:path";
  import { report, say } from ${JSON.stringify(REPORT)};
  import { Upgrader } from "handover";
  const upg = new Upgrader({ probation: 50 });
  report(upg);
  await upg.ready();
  say(upg, "accepting", { words: process.argv.slice(1).map((word) => basename(word)) });
  say(upg, "exited", { outcome: await upg.exit });`;
const program = (options: string): string =>
  `import { run } from ${JSON.stringify(FIXTURE)}; await run(${options});`;

let home: string;
let current: string;

beforeEach(() => {
  home = realpathSync(temporaryDirectory());
  current = join(home, "current");
  mkdirSync(join(home, "node_modules"));
  symlinkSync(PACKAGE, join(home, "node_modules", "handover"));
  for (const release of ["1", "2", "3"]) {
    const directory = join(home, "releases", release);
    mkdirSync(directory, { recursive: true });
    write(join(directory, "server.js"), program(`"${release}"`));
    write(
      join(directory, "server.cjs"),
      `require("handover"); import(${JSON.stringify(FIXTURE)}).then(({ run }) => run("${release}"));`,
    );
    write(join(directory, "hook.js"), `process.env.HOOKED = "${release}";`);
    write(join(directory, "package.json"), '{ "type": "module" }');
  }
  deploy("1");
});

describe("a release behind a switched symlink", () => {
  test.each([
    ["as `node server.js` inside it", ["server.js"], "current"],
    ["as `node server.cjs` inside it, CommonJS", ["server.cjs"], "current"],
    ["as `node .` inside it", ["./server.js"], "current"],
    ["as `node current/server.js`", ["current/server.js"], "."],
    ["as `node current/server.cjs`, CommonJS", ["current/server.cjs"], "."],
    ["with --import inside it", ["--import", "./hook.js", "server.js"], "current"],
    ["with --import from without", ["--import", "./current/hook.js", "current/server.js"], "."],
  ])(
    "a release behind a switched symlink is picked up if the program was started %s",
    async (_, words, directory) => {
      const cwd = join(home, directory);
      const service = Service.start("", { command: [process.execPath, ...words], cwd, env: { PWD: cwd } });
      const first = await started(service, 0);
      expect(first).toMatchObject({ release: "1", words: [process.execPath, ...words] });
      for (const release of ["2", "3"]) {
        deploy(release);
        await service.replace();
        const next = await started(service, Number(release) - 1);
        expect(next).toMatchObject({ release, words: first["words"], environ: first["environ"] });
        expect(next["cwd"]).toBe(realpathSync(cwd));
      }
      expect(service.noise).toBe("");
    },
  );

  test("a release behind a switched symlink is picked up by its absolute path, though the first directory is gone", async () => {
    const service = Service.start("", { command: [process.execPath, join(current, "server.js")], cwd: home });
    await service.until("accepting");
    renameSync(join(home, "releases", "1"), join(home, "old"));
    deploy("2");
    await service.replace();
    expect(await started(service, 1)).toMatchObject({ release: "2" });
  });
});

test("a `node` behind a switched symlink on PATH is picked up", async () => {
  const bin = join(home, "bin");
  mkdirSync(bin);
  symlinkSync(process.execPath, join(bin, "node"));
  const PATH = [bin, process.env["PATH"]].join(delimiter);
  const service = Service.start("", {
    command: ["node", "server.js"],
    cwd: current,
    env: { PATH, PWD: current },
  });
  await service.until("accepting");
  const newer = join(home, "newer-node");
  write(newer, `#!/bin/bash\nNEWER=yes exec -a node ${process.execPath} "$@"\n`);
  chmodSync(newer, 0o755);
  replaceLink(newer, join(bin, "node"));
  await service.replace();
  const { words, environ } = await started(service, 1);
  expect(words).toEqual(["node", "server.js"]);
  expect(environ).toContain("NEWER=yes");
});

test("the third generation gets the same words, environment and directory as the first", async () => {
  const words = [process.execPath, "--no-deprecation", "server.js", "", "a b", "--x=ü", "'$HOME'\n"];
  const env = { KEPT: "1", EMPTY: "", EQUALS: "a=b=c", LINES: "a\nb", UNICODE: "ü€😀" };
  const service = Service.start("", { command: words, cwd: current, env });
  await service.until("accepting");
  await service.replace();
  await service.replace();
  const [first, second, third] = [
    await started(service, 0),
    await started(service, 1),
    await started(service, 2),
  ];
  expect(first["words"]).toEqual(words);
  expect(first["environ"]).toEqual(
    expect.arrayContaining(Object.entries(env).map(([name, value]) => `${name}=${value}`)),
  );
  for (const next of [second, third]) {
    expect(next["words"]).toEqual(first["words"]);
    expect(next["environ"]).toEqual(first["environ"]);
    expect(next["cwd"]).toEqual(first["cwd"]);
  }
  expect(first["environ"]).not.toContainEqual(expect.stringMatching(/^LOADED=/));
});

test("a successor does not get the variables of one process alone", async () => {
  const own = {
    LISTEN_FDS: "1",
    LISTEN_PID: "1",
    LISTEN_FDNAMES: "x",
    NODE_CHANNEL_SERIALIZATION_MODE: "json",
  };
  const env = { ...own, NODE_UNIQUE_ID_OF_MINE: "1" };
  const service = Service.start("", { command: [process.execPath, "server.js"], cwd: current, env });
  await service.until("accepting");
  await service.replace();
  const names = async (generation: number): Promise<string[]> =>
    ((await started(service, generation))["environ"] as string[]).map((line) => line.split("=")[0]!);
  expect(await names(0)).toEqual(expect.arrayContaining(Object.keys(env)));
  const handedOn = await names(1);
  expect(Object.keys(own).filter((name) => handedOn.includes(name))).toEqual([]);
  expect(handedOn).toContain("NODE_UNIQUE_ID_OF_MINE");
});

describe.each([
  ["its arguments", (option: string) => ({ command: [process.execPath, option, "server.js"] })],
  ["NODE_OPTIONS", (option) => ({ command: [process.execPath, "server.js"], env: { NODE_OPTIONS: option } })],
] as [string, (option: string) => StartOptions][])("a program with --inspect in %s", (place, start) => {
  test(`every generation of a program with --inspect in ${place} has an inspector, and says at which port`, async () => {
    const fixed = await freePort();
    const service = Service.start("", { cwd: current, ...start(`--inspect=127.0.0.1:${fixed}`) });
    await service.until("accepting");
    await service.replace();
    await service.replace();
    const ports = [...service.noise.matchAll(/Debugger listening on ws:\/\/127\.0\.0\.1:(\d+)/g)];
    expect(ports).toHaveLength(3);
    expect(ports.filter(([, port]) => port === String(fixed))).toHaveLength(1);
    expect(service.noise).not.toContain("Starting inspector");
  });
});

test("a path with blanks in NODE_OPTIONS survives the change of the inspector's port", async () => {
  const directory = join(home, "two  blanks and ü");
  mkdirSync(directory);
  write(join(directory, "hook.cjs"), "");
  // Without --inspect this port opens nothing.
  const NODE_OPTIONS = `--require "${join(directory, "hook.cjs")}" --inspect-port=9229`;
  const service = Service.start("", {
    command: [process.execPath, "server.js"],
    cwd: current,
    env: { NODE_OPTIONS },
  });
  await service.until("accepting");
  await service.replace();
  const { environ } = await started(service, 1);
  expect(environ).toContain(`NODE_OPTIONS=${NODE_OPTIONS.replace("9229", "0")}`);
});

describe("the option spawn", () => {
  test("the option spawn replaces the command, its arguments, the directory and the environment", async () => {
    const to = join(home, "releases", "2");
    const override = {
      command: process.execPath,
      args: ["--no-deprecation", "server.js", "new"],
      cwd: to,
      env: { PATH: process.env["PATH"], ONLY: "this" },
    };
    write(join(home, "releases", "1", "server.js"), program(`"1", { spawn: ${JSON.stringify(override)} }`));
    const service = Service.start("", { command: [process.execPath, "server.js"], cwd: current });
    await service.until("accepting");
    await service.replace();
    expect(await started(service, 1)).toMatchObject({
      release: "2",
      words: [process.execPath, "--no-deprecation", "server.js", "new"],
      cwd: to,
      environ: [`PATH=${process.env["PATH"]}`, "ONLY=this", `PWD=${to}`],
    });
  });

  test("the option spawn may be a function, which is called at every upgrade", async () => {
    const asked = 'let n = 0; await run("1", { spawn: () => ({ args: ["server.js", `${++n}`] }) });';
    const server = join(home, "releases", "1", "server.js");
    write(server, `import { run } from ${JSON.stringify(FIXTURE)}; ${asked}`);
    const service = Service.start("", { command: [process.execPath, "server.js"], cwd: current });
    await service.until("accepting");
    await service.replace();
    expect(await started(service, 1)).toMatchObject({ words: [process.execPath, "server.js", "1"] });
  });

  test.each([
    ['{ spawn: { cwd: "releases" } }', "ERR_OPTION", /"spawn.cwd" must be an absolute path, not 'releases'/],
    [
      '{ spawn: { cwd: "/nowhere" } }',
      "ERR_SPAWN",
      /cannot start a successor in \/nowhere: there is no such dir/,
    ],
    [
      '{ spawn: { command: "" } }',
      "ERR_OPTION",
      /"spawn.command" must be a string that is not empty, not ''/,
    ],
    ['{ spawn: { args: "x" } }', "ERR_OPTION", /"spawn.args" must be an array of strings, not 'x'/],
    ["{ spawn: () => ({ arg: [] }) }", "ERR_OPTION", /does not know the option "arg"/],
    ['{ spawn: { command: "/nowhere/node" } }', "ERR_SPAWN", /\/nowhere\/node .* ENOENT/],
  ])("the options %s fail the upgrade with %s", async (options, code, message) => {
    write(join(home, "releases", "1", "server.js"), program(`"1", ${options}`));
    const service = Service.start("", { command: [process.execPath, "server.js"], cwd: current });
    await service.until("accepting");
    process.kill(service.pid, "SIGHUP");
    expect(await service.until("failed")).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(await service.untilNoise(/^[^]*\n$/)).toMatch(/^handover: upgrade failed: [^\n]+\n$/);
  });
});

test("a program that has set process.title before the import is started by Node's own words, with a warning", async () => {
  const server = join(home, "releases", "1", "server.js");
  write(server, `process.title = "short"; (await import(${JSON.stringify(FIXTURE)})).run("1");`);
  const words = [process.execPath, "--no-deprecation", "server.js", "a b"];
  const service = Service.start("", { command: words, cwd: current });
  await service.untilNoise(
    /HANDOVER_COMMAND\] Warning: the command line was overwritten \(process\.title\?\)/,
  );
  await service.until("accepting");
  write(server, program('"1"'));
  await service.replace();
  expect(await started(service, 1)).toMatchObject({
    words: [process.execPath, "--no-deprecation", realpathSync(server), "a b"],
  });
});

test.skipIf(Sandbox.missing)(
  `a program that is started without /proc is upgraded by Node's own words, and the warning blames no title${Sandbox.why}`,
  async () => {
    const hide = ["--mount", "sh", "-e", "-c", 'mount -t tmpfs none /proc; exec "$@"', "sh"];
    write(join(current, "server.js"), WITHOUT_PROC);
    const command = ["unshare", ...rootOfNamespace(), ...hide, process.execPath, "server.js"];
    const service = Service.start("", { command, cwd: current, env: { PWD: current } });
    await service.replace();
    expect(await service.until("accepting", { generation: 1 })).toMatchObject({ words: ["server.js"] });
    const warning =
      /HANDOVER_COMMAND\] Warning: the command line cannot be read: \/proc is not mounted, so a release/;
    await service.untilNoise(warning);
    expect(service.noise).not.toContain("process.title");
  },
);

test("a program that sets process.title after the import is started by its first words", async () => {
  const server = join(home, "releases", "1", "server.js");
  write(server, `import { run } from ${JSON.stringify(FIXTURE)}; process.title = "short"; await run("1");`);
  const service = Service.start("", { command: [process.execPath, "server.js", "a b"], cwd: current });
  await service.until("accepting");
  write(server, program('"1"'));
  await service.replace();
  expect(await started(service, 1)).toMatchObject({ words: [process.execPath, "server.js", "a b"] });
  expect(service.noise).toBe("");
});

test("require() and import give the same package", () => {
  const script =
    'const a = require("handover"); import("handover").then((b) => console.log(a.Upgrader === b.Upgrader));';
  const file = join(home, "both.cjs");
  write(file, script);
  expect(execFileSync(process.execPath, [file], { encoding: "utf8" })).toBe("true\n");
});

async function started(service: Service, generation: number): Promise<Line> {
  return service.until("started", { generation });
}

function write(file: string, text: string): void {
  writeFileSync(file, text);
}

/** Switches the symlink, as deployments do: there is always one. */
function deploy(release: string): void {
  replaceLink(join("releases", release), current);
}

function replaceLink(to: string, link: string): void {
  symlinkSync(to, `${link}.new`);
  renameSync(`${link}.new`, link);
}
