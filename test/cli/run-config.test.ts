import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadSettings } from "../../dist/cli/run/load-settings.js";
import { usableProcessors } from "../../dist/platform/cgroup.js";
import { jsonLines, startHandover, type Run } from "../support/program.js";
import { temporaryDirectory } from "../support/service.js";

/** A directory with `server.js`, and other files. */
function project(files: Record<string, string | object> = {}): string {
  const directory = temporaryDirectory();
  for (const [name, content] of Object.entries({ "server.js": "", ...files })) {
    writeFileSync(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
  }
  return directory;
}

/** Runs `handover run --dry-run` there. */
function check(directory: string, ...args: string[]): Promise<Run> {
  return startHandover(["run", "--dry-run", ...args], { PWD: directory }, directory).ended;
}

/** The settings that `handover run` would use; fails if there are none. */
async function settingsOf(directory: string, ...args: string[]): Promise<Record<string, unknown>> {
  const run = await check(directory, "--json", ...args);
  expect(run).toMatchObject({ code: 0 });
  return jsonLines(run)[0]!;
}

/** Its faults, without the name of the program; it must be wrong usage. */
async function faultsOf(directory: string, ...args: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await check(directory, ...args);
  expect([code, stdout]).toEqual([2, ""]);
  const lines = stderr.trimEnd().split("\n");
  expect(lines.pop()).toBe("Try: handover run --help");
  return lines.map((line) => line.replace(/^handover: /, "").replaceAll(`${directory}/`, ""));
}

describe("the command line of handover run", () => {
  test("takes the words after the program for its own, with and without --", async () => {
    const directory = project();
    const settings = { workers: 3, name: "server" };
    const words = [expect.any(String) as string, join(directory, "server.js"), "--workers", "7", "--json"];
    const own = ["server.js", "--workers", "7", "--json"];
    for (const args of [own, ["--", ...own]]) {
      expect(await settingsOf(directory, "--workers", "3", ...args)).toMatchObject({
        ...settings,
        command: words,
      });
    }
  });

  test("sets every setting of a service", async () => {
    const directory = project({ ".env": "A=1" });
    const flags =
      "--workers 2 --rolling 1 --name web --pid-file web.pid --control web.sock --env-file .env --ready-timeout 5s " +
      "--probation 0 --hang-timeout 0s --stop-timeout 1m --restarts 3 --restart-window 2m --backoff 0 " +
      "--max-memory 512M --health a:/a --health b:/b --sticky ip --no-rebalance --prefix";
    const settings = await settingsOf(directory, ...flags.split(" "), "server.js");
    expect(settings).toEqual({
      answer: "settings",
      command: [expect.any(String), join(directory, "server.js")],
      cwd: directory,
      name: "web",
      workers: 2,
      rolling: 1,
      pidFile: join(directory, "web.pid"),
      controlSocket: join(directory, "web.sock"),
      signals: { upgrade: "SIGHUP", stop: ["SIGTERM", "SIGINT"] },
      readyTimeout: 5_000,
      probation: 0,
      hangTimeout: 0,
      stopTimeout: 60_000,
      restarts: 3,
      restartWindow: 120_000,
      backoff: 0,
      maxMemory: 536_870_912,
      health: {
        paths: [
          { name: "a", path: "/a" },
          { name: "b", path: "/b" },
        ],
      },
      sticky: "ip",
      rebalance: false,
      prefix: true,
    });
  });

  test("splits the command that examines a worker as a shell does", async () => {
    const health = ["--health-command", "curl -fs 'http://localhost/a b'"];
    expect(await settingsOf(project(), ...health, "server.js")).toMatchObject({
      health: { command: ["curl", "-fs", "http://localhost/a b"] },
    });
  });

  test("prints the settings for people, too", async () => {
    const { code, stdout, stderr } = await check(project(), "--workers", "2", "--", "server.js", "a b");
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(
      /^command +\S+ \/.*\/server\.js 'a b'\ncwd +\/.*\nname +server\nworkers +2\n[^]*\nprefix +false\n$/,
    );
  });

  test.each([
    [["nowhere.js"], ["the program cannot be run: there is no file nowhere.js"]],
    [
      ["no-such-word"],
      ["the program cannot be run: there is no file no-such-word, and no command no-such-word on PATH"],
    ],
    [["--workers", "0", "server.js"], ['--workers must be a whole number from 1 to 253, or "max", not 0']],
    [
      ["--max-memory", "1", "--health", "x", "--name", "a b", "server.js"],
      [
        "--name must be at most 100 letters, digits, dots, dashes and underscores, not 'a b'",
        '--max-memory must be bytes, or a text such as "512M" or "2G", at least 1M, not \'1\'',
        '--health must be "/path" or "NAME:/path", not \'x\'',
      ],
    ],
    [["--pid-file", "", "server.js"], ["--pid-file must be a path, not ''"]],
    [["--health-command", "'", "server.js"], [expect.stringMatching(/a quote is not closed/) as string]],
    [["--health-command", "", "server.js"], ["--health-command must be the words of a command, not []"]],
    [
      ["--env", "production", "server.js"],
      [expect.stringMatching(/^--env chooses variables of a file of PM2/) as string],
    ],
  ])("refuses %j, naming each flag", async (args, faults) => {
    expect(await faultsOf(project(), ...args)).toEqual(faults);
  });

  test.each([
    [["--workers", "two"], /'two' is invalid.* whole number, or max/],
    [["--ready-timeout", "soon"], /'soon' is invalid.* such as 500ms/],
    [["--sticky", "cookie"], /'cookie' is invalid.* ip/],
    [["--health", "/a", "--health-command", "b"], /cannot be used with/],
    [["--wrokers", "2"], /unknown option '--wrokers'.*--workers/s],
  ])("refuses %j as every command does", async (args, message) => {
    const { code, stderr } = await check(project(), ...args, "server.js");
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });

  test("prints all faults as JSON, too", async () => {
    const run = await check(project(), "--json", "--workers", "0", "--max-memory", "1", "server.js");
    expect(run.code).toBe(2);
    expect(jsonLines(run)).toEqual([
      {
        answer: "failed",
        code: "ERR_OPTION",
        message: expect.stringMatching(/^--workers must .*; --max-memory must /) as string,
      },
    ]);
  });

  test("needs a program, or a file with one", async () => {
    expect(await faultsOf(project())).toEqual([
      "name a program, as in handover run -- server.js, or --config; there is no handover.config.json",
    ]);
  });
});

describe("handover.config.json", () => {
  test("has the settings of handover run without a program", async () => {
    const directory = project({
      "handover.config.json": {
        $schema: "./node_modules/handover/schema.json",
        program: "server.js",
        args: ["--port", "80"],
        nodeArgs: ["--enable-source-maps"],
        workers: 2,
        health: ["a:/a"],
        maxMemory: "1G",
        signals: { upgrade: "SIGUSR2" },
      },
    });
    expect(await settingsOf(directory)).toMatchObject({
      command: [expect.any(String), "--enable-source-maps", join(directory, "server.js"), "--port", "80"],
      workers: 2,
      maxMemory: 1_073_741_824,
      signals: { upgrade: "SIGUSR2" },
    });
  });

  test("is not read if a program is named", async () => {
    const directory = project({ "handover.config.json": "{" });
    expect(await settingsOf(directory, "server.js")).toMatchObject({ name: "server" });
  });

  test("has paths relative to itself, and flags have paths relative to the shell", async () => {
    const directory = project();
    mkdirSync(join(directory, "app"));
    writeFileSync(join(directory, "app", "main.js"), "");
    const config = { program: "main.js", pidFile: "a.pid", envFile: ".env" };
    writeFileSync(join(directory, "app", ".env"), "A=1");
    writeFileSync(join(directory, "app", "c.json"), JSON.stringify(config));
    expect(await settingsOf(directory, "--config", "app/c.json", "--control", "s")).toMatchObject({
      command: [expect.any(String), join(directory, "app", "main.js")],
      cwd: join(directory, "app"),
      pidFile: join(directory, "app", "a.pid"),
      controlSocket: join(directory, "s"),
    });
  });

  test("is overruled by the command line", async () => {
    const directory = project({
      "handover.config.json": {
        program: "nowhere.js",
        nodeArgs: ["--x"],
        args: ["a"],
        workers: 2,
        prefix: true,
      },
    });
    const args = ["--config", "handover.config.json", "--workers", "5", "server.js", "b"];
    expect(await settingsOf(directory, ...args)).toMatchObject({
      command: [expect.any(String), join(directory, "server.js"), "b"],
      workers: 5,
      prefix: true,
    });
  });

  test("with several services starts the one of --name", async () => {
    const services = [
      { name: "web", program: "server.js", workers: 2 },
      { name: "api", program: "nowhere.js" },
    ];
    const directory = project({ "handover.config.json": { services } });
    expect(await settingsOf(directory, "--name", "web")).toMatchObject({ name: "web", workers: 2 });
    expect(await faultsOf(directory)).toEqual([
      "handover.config.json has 2 services: web, api; choose one by --name",
    ]);
    expect(await faultsOf(directory, "--name", "db")).toEqual([
      "handover.config.json has no service db: web, api; choose one by --name",
    ]);
    expect(await faultsOf(directory, "--name", "api")).toEqual([
      "handover.config.json: $.services[1].program cannot be run: there is no file nowhere.js",
    ]);
  });

  test.each([
    [
      "unknown and wrong settings",
      {
        program: "server.js",
        wokers: 2,
        max_memory: "1G",
        zebra: 1,
        restarts: -1,
        env: { A: 1 },
        health: ["x:/a", "b"],
      },
      [
        '$.wokers is not an option; did you mean "workers"?',
        '$.max_memory is not an option; did you mean "maxMemory"?',
        expect.stringMatching(/^\$\.zebra is not an option; the options are program, args, /),
        "$.env.A must be a string without a NUL, not 1",
        "$.restarts must be a whole number from 0 to 1000000, not -1",
        '$.health[1] must be "/path" or "NAME:/path", not \'b\'',
      ],
    ],
    ["no program", {}, ["$.program must be a file or a command, not undefined"]],
    [
      "null for a setting",
      { program: "server.js", workers: null },
      [expect.stringMatching(/^\$\.workers must .*, not null$/)],
    ],
    [
      "an environment file that is missing",
      { program: "server.js", envFile: "x" },
      [expect.stringMatching(/^\$\.envFile names a file that cannot be read, x: ENOENT/)],
    ],
    ["an array", "[]", ["$ must be an object, not an empty array"]],
    ["no service", { services: [] }, ["$.services must be an array of services, not an empty array"]],
    [
      "services without a name, and settings beside them",
      { workers: 2, services: [{ program: "server.js" }, 7, { name: "b", wokers: 1 }, { name: "b" }] },
      [
        "$.workers cannot stand beside $.services: it belongs to one of the services",
        "$.services[1] must be an object, not a number",
        '$.services[2].wokers is not an option; did you mean "workers"?',
        "$.services[0].name is missing: the file has several services",
        "$.services[3].name is the name of two services, b",
        "handover.config.json has 3 services: one without a name, b, b; choose one by --name",
      ],
    ],
  ])("with %s is refused with all faults and their paths", async (_, content, faults) => {
    const found = await faultsOf(project({ "handover.config.json": content }));
    expect(found.map((one) => one.replace("handover.config.json: ", ""))).toEqual(faults);
  });

  test.each([
    ["is broken", '{\n  "workers": 2,\n}', /^cannot read handover\.config\.json: .* \(line 3 column 1\)$/],
    ["is empty", "", /^cannot read handover\.config\.json: Unexpected end of JSON input$/],
    ["is too long", " ".repeat(2 ** 20 + 1), /^cannot read .*: it is longer than 1048576 bytes$/],
  ])("that %s is refused", async (_, text, message) => {
    expect(await faultsOf(project({ "handover.config.json": text }))).toEqual([
      expect.stringMatching(message),
    ]);
  });

  test("that is missing, or a directory, is refused", async () => {
    const directory = project();
    expect(await faultsOf(directory, "--config", "c.json")).toEqual([
      expect.stringMatching(/^cannot read c\.json: ENOENT/),
    ]);
    mkdirSync(join(directory, "d.json"));
    expect(await faultsOf(directory, "--config", "d.json")).toEqual(["cannot read d.json: it is not a file"]);
  });
});

describe("an ecosystem file of PM2", () => {
  const app = {
    name: "my shop",
    script: "./server.js",
    args: "--port 80 'a b'",
    node_args: ["--max-old-space-size=200"],
    instances: "2",
    exec_mode: "cluster",
    env: { NODE_ENV: "development", N: 3, O: { a: 1 } },
    env_production: { NODE_ENV: "production" },
    port: 8080,
    max_memory_restart: "300M",
    max_restarts: 5,
    min_uptime: "10s",
    exp_backoff_restart_delay: 200,
    listenTimeout: 5_000,
    pid_file: "shop.pid",
    source_map_support: true,
    watch: false,
    ignore_watch: ["logs"],
  };
  const expected = {
    name: "my-shop",
    workers: 2,
    restarts: 5,
    restartWindow: 50_000,
    backoff: 200,
    readyTimeout: 5_000,
    maxMemory: 314_572_800,
  };

  test.each([
    ["ecosystem.config.js", `console.log("printed"); module.exports = { apps: [${JSON.stringify(app)}] };`],
    ["ecosystem.config.cjs", `module.exports = { apps: ${JSON.stringify(app)} };`],
    ["ecosystem.config.mjs", `export default await Promise.resolve({ apps: [${JSON.stringify(app)}] });`],
    ["apps.config.mjs", `export const apps = [${JSON.stringify(app)}];`],
    ["ecosystem.json", JSON.stringify({ apps: [app] })],
    ["ecosystem.config.json", `{ /* one */ apps: [${JSON.stringify(app)}], }`],
    ["processes.json", JSON.stringify([app])],
    ["pm2.config.cjs", `module.exports = ${JSON.stringify(app)}; setInterval(() => {}, 1000);`],
  ])("is read as PM2 reads it: %s", async (name, text) => {
    const directory = project({ [name]: text });
    const run = await check(directory, "--config", name, "--json");
    expect(run.code).toBe(0);
    expect(jsonLines(run)).toEqual([
      expect.objectContaining({
        ...expected,
        pidFile: join(directory, "shop.pid"),
        command: [
          expect.any(String),
          "--max-old-space-size=200",
          "--enable-source-maps",
          join(directory, "server.js"),
          "--port",
          "80",
          "a b",
        ],
      }) as object,
    ]);
    expect(run.stderr.replace("printed\n", "")).toBe("");
  });
});

const ecosystem = (app: object, more: object = {}): Record<string, string> => ({
  "ecosystem.config.cjs": `module.exports = ${JSON.stringify({ apps: [{ script: "server.js", ...app }], ...more })};`,
});
const CONFIG = ["--config", "ecosystem.config.cjs"];

describe("an app of PM2", () => {
  test.each([
    [{}, { workers: 1, name: "server" }],
    [{ instances: "max" }, { workers: usableProcessors() }],
    [{ instances: 0 }, { workers: usableProcessors() }],
    [{ instances: -1 }, { workers: Math.max(1, usableProcessors() - 1) }],
    [{ instances: -1_000 }, { workers: 1 }],
    [{ autorestart: false }, { restarts: 0 }],
    [{ restart_delay: 3_000 }, { backoff: 3_000 }],
    [{ max_restarts: 3 }, { restarts: 3, restartWindow: 60_000 }],
    [{ min_uptime: 2_000 }, { restarts: 10, restartWindow: 32_000 }],
    [
      { interpreter: "sh", interpreter_args: "-e", args: ["x"] },
      { command: ["sh", "-e", expect.stringMatching(/server\.js$/), "x"] },
    ],
    [{ script: "node", args: "server.js", interpreter: "none" }, { command: ["node", "server.js"] }],
    [{ script: "node server.js | cat" }, { command: ["sh", "-c", "node server.js | cat"] }],
    [{ script: undefined, cmd: "server.js" }, { name: "server" }],
  ])("%j becomes %j", async (given, settings) => {
    expect(await settingsOf(project(ecosystem(given)), ...CONFIG)).toMatchObject(settings);
  });

  test("has the variables of env, then those of --env, and its port", async () => {
    const env = { A: "a", B: 2, C: { d: 1 }, PORT: "1" };
    const directory = project(ecosystem({ env, env_production: { B: true }, port: 80 }));
    const load = async (environment?: string): Promise<NodeJS.ProcessEnv> => {
      const flags = { config: "ecosystem.config.cjs", ...(environment && { env: environment }) };
      const { settings } = await loadSettings(flags, [], directory);
      return settings.readEnv();
    };
    expect(await load()).toMatchObject({ A: "a", B: "2", C: '{"d":1}', PORT: "80" });
    expect(await load("production")).toMatchObject({ A: "a", B: "true", C: '{"d":1}', PORT: "80" });
  });

  test.each([
    [
      {
        instances: "many",
        max_memory_restart: "lots",
        listen_timeout: 0,
        restart_delay: -1,
        min_uptime: "long",
      },
      [
        '$.apps[0].min_uptime must be ms, or a text such as "10s", not "long"',
        "$.apps[0].instances must be a whole number from 1 to 253, or \"max\", not 'many'",
        "$.apps[0].listen_timeout must be a whole number of milliseconds from 1 to 2147483647, not 0",
        "$.apps[0].restart_delay must be a whole number of milliseconds from 0 to 2147483647, not -1",
        '$.apps[0].max_memory_restart must be bytes, or a text such as "512M" or "2G", at least 1M, not \'lots\'',
      ],
    ],
    [
      { interpreter: "node@18", args: { a: 1 }, env: "A=1", pid: 7 },
      [
        "$.apps[0].args must be a text or an array of texts, not an object",
        '$.apps[0].interpreter must be the name or the path of a program, not "node@18"',
        '$.apps[0].env must be an object of variables, not "A=1"',
        "$.apps[0].pid must be a path, not 7",
      ],
    ],
    [{ script: "nowhere.js" }, ["$.apps[0].script cannot be run: there is no file nowhere.js"]],
    [{ script: undefined }, ["$.apps[0].script must be a file or a command, not undefined"]],
    [{ args: "'" }, [expect.stringMatching(/^\$\.apps\[0\]\.args must be words .*a quote is not closed/)]],
  ])("with the faults %j is refused, with their paths", async (given, faults) => {
    const found = await faultsOf(project(ecosystem(given)), ...CONFIG);
    expect(found.map((one) => one.replace("ecosystem.config.cjs: ", ""))).toEqual(faults);
  });

  test("is told once of each key without a counterpart, and what to do instead", async () => {
    const given = {
      cron_restart: "0 0 * * *",
      out_file: "x.log",
      kill_timeout: 3_000,
      waitReady: true,
      watch: ["src"],
      ignore_watch: ["logs"],
      instance_var: "INDEX",
      treekill: false,
      fooBar: 1,
      instancs: 1,
    };
    const { code, stderr } = await check(project(ecosystem(given, { deploy: {} })), ...CONFIG);
    const notes = stderr.trimEnd().split("\n");
    expect(code).toBe(0);
    expect(notes.map((note) => note.replace(/^handover: \/.*\.cjs: /, "").replace(/:.*/, ""))).toEqual([
      ...[
        "cron_restart",
        "out_file",
        "kill_timeout",
        "waitReady",
        "watch",
        "ignore_watch",
        "instance_var",
        "treekill",
      ].map((key) => `$.apps[0].${key} is not used`),
      "$.apps[0].fooBar is not a key of PM2",
      '$.apps[0].instancs is not a key of PM2; did you mean "instances"?',
      "$.deploy is not used",
    ]);
    expect(stderr).toMatch(/cron_restart is not used: let a systemd timer or cron run handover upgrade\n/);
  });

  test("is not told of keys that ask for what happens anyway", async () => {
    const given = {
      watch: false,
      ignore_watch: ["x"],
      autostart: true,
      treekill: true,
      merge_logs: true,
      vizion: false,
    };
    const { code, stderr } = await check(
      project(ecosystem({ ...given, instance_var: "NODE_APP_INSTANCE" })),
      ...CONFIG,
    );
    expect([code, stderr]).toEqual([0, ""]);
  });

  test("is told that it has no variables for --env", async () => {
    const { stderr } = await check(project(ecosystem({})), ...CONFIG, "--env", "staging");
    expect(stderr).toMatch(/: \$\.apps\[0\] has no env_staging: the variables of env are used\n$/);
  });

  test("is chosen by --name if there are several", async () => {
    const apps = [
      { name: "a b", script: "server.js" },
      { script: "server.js", instances: 4 },
    ];
    const directory = project({ "ecosystem.config.cjs": `module.exports = ${JSON.stringify({ apps })};` });
    expect(await faultsOf(directory, ...CONFIG)).toEqual([
      "ecosystem.config.cjs has 2 services: a-b, server; choose one by --name",
    ]);
    expect(await settingsOf(directory, ...CONFIG, "--name", "server")).toMatchObject({ workers: 4 });
  });
});

describe("an ecosystem file that is wrong", () => {
  test.each([
    ["throws", 'throw new Error("no database")', "Error: no database"],
    ["throws a text", 'throw "no database";', "no database"],
    ["has a syntax error", "module.exports = {", "SyntaxError: Unexpected end of input"],
    [
      "needs a module that is not installed",
      'require("not-installed-here")',
      /^Error: Cannot find module 'not-installed-here'/,
    ],
    [
      "exports a function",
      "module.exports = () => ({ apps: [] })",
      "it exports a function, and not the settings",
    ],
    [
      "exports a promise",
      "module.exports = Promise.resolve({ apps: [] })",
      "it exports a promise, and not the settings",
    ],
    ["exports a cycle", "exports.apps = exports", /^TypeError: Converting circular structure to JSON/],
    ["exports what is not JSON", "exports.apps = [1n]", /^TypeError: .*BigInt/],
    ["exits", "process.exit(3)", "its process ended with code 3"],
    ["is killed", 'process.kill(process.pid, "SIGKILL")', "its process ended with SIGKILL"],
    ["exports too much", 'exports.apps = ["x".repeat(2 ** 20)]', "its JSON is longer than 1048576 bytes"],
    ["writes on the pipe of its answer", 'require("fs").writeSync(3, "{}x\\n")', /JSON/],
    ["does not end", "for (;;);", "it does not end within 10 s"],
  ])("because it %s is refused", async (_, text, reason) => {
    const directory = project({ "ecosystem.config.cjs": text });
    const [fault, ...others] = await faultsOf(directory, ...CONFIG);
    expect(others).toEqual([]);
    const [, why] = /^cannot read ecosystem\.config\.cjs: (.*)$/.exec(fault!)!;
    expect(why).toMatch(reason);
  });

  test.each([
    ["a text", 'module.exports = "x"', "$ must be an object, not a string"],
    ["no apps", "module.exports = { apps: [] }", "$.apps must be an array of apps, and not empty"],
    ["nothing", "", "$.apps must be an array of apps, and not empty"],
    [
      "an app that is a number",
      "module.exports = { apps: [1] }",
      "$.apps[0] must be an object, not a number",
    ],
  ])("because it exports %s is refused", async (_, text, reason) => {
    const directory = project({ "ecosystem.config.cjs": text });
    expect(await faultsOf(directory, ...CONFIG)).toEqual([`ecosystem.config.cjs: ${reason}`]);
  });

  test("because it is YAML is refused", async () => {
    const directory = project({ "ecosystem.yml": "apps: []" });
    expect(await faultsOf(directory, "--config", "ecosystem.yml")).toEqual([
      "cannot read ecosystem.yml: YAML is not read; write it as JSON",
    ]);
  });

  test("prints on stderr, and not into the JSON of the command", async () => {
    const directory = project({
      "ecosystem.config.cjs":
        'process.stdout.write("out\\n"); console.error("err"); exports.apps = [{ script: "server.js" }];',
    });
    const run = await check(directory, ...CONFIG, "--json");
    expect(jsonLines(run)).toHaveLength(1);
    expect(run.stderr.split("\n").toSorted()).toEqual(["", "err", "out"]);
  });
});
