import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { DIRECTIVES } from "../../dist/cli/unit-file/directives.js";
import { quoteWord, splitWords } from "../../dist/cli/unit-file/quote.js";
import { handover, jsonLines } from "../support/program.js";
import { temporaryDirectory } from "../support/service.js";

const version = spawnSync("systemd-analyze", ["--version"], { encoding: "utf8" }).stdout as string | null;
const systemd = Number(/^systemd (\d+)/.exec(version ?? "")?.[1] ?? 0);
const isSkipped = systemd === 0 && process.env["CI"] === undefined;

describe(`systemd-analyze verify${isSkipped ? " (skipped: there is no systemd-analyze)" : ""}`, () => {
  test
    .skipIf(isSkipped)
    .each([
      [[]],
      [["--type", "notify", "--user", "www-data", "--watchdog", 10]],
      [["--type", "simple", "--drain-timeout", 600_000, "--upgrade-timeout", 5_500]],
      [["--type", "forking"]],
      [["--socket", 8080, "--socket", "[::1]:8081", "--socket", "/run/app/app.sock", "--socket", "@app"]],
      [["--pid-file", "/run/my app/100%.pid", "--working-directory", "/srv/my app/50% $HOME"]],
      [["--exec", `/usr/bin/env node '/srv/my app/$HOME %h.js' ; "it's" "" \\\\ '#' é`]],
    ])("systemd-analyze verify finds nothing wrong with a unit made with %j", async (options) => {
    const directory = temporaryDirectory();
    const args = ["--exec", `${process.execPath} /srv/app/server.js`, "--name", "app", ...options];
    expect(await handover("unit", ...args, "--write", directory)).toMatchObject({ code: 0, stderr: "" });
    const files = readdirSync(directory).map((name) => join(directory, name));
    expect(verify(files)).toBe("");
  });

  test.skipIf(isSkipped)(
    "systemd-analyze verify finds nothing wrong with a unit for notify-reload, from systemd 253 on",
    async () => {
      const directory = temporaryDirectory();
      await handover(
        "unit",
        "--exec",
        "node /srv/app/server.js",
        "--type",
        "notify-reload",
        "--write",
        directory,
      );
      const complaint = /^\S+:\d+: Failed to parse service type, ignoring: notify-reload\n$/;
      expect(verify([join(directory, "app.service")])).toMatch(systemd < 253 ? complaint : /^$/);
    },
  );
});

describe("handover unit", () => {
  test("handover unit explains each line", async () => {
    const { stdout } = await handover("unit", "--exec", "node /srv/app/server.js", "--socket", 80);
    // Lines that belong together share a comment.
    expect(stdout).not.toMatch(/^\[.*\]\n(?!# )/m);
    expect(stdout).toContain("\n# app.socket, by handover");
  });

  test("handover unit takes its defaults from the package", async () => {
    const { directory, text } = await unitOf({
      name: "@acme/shop",
      scripts: { start: 'node --enable-source-maps "my server.js"' },
    });
    expect(text).toMatch(/^ExecStart=\/\S+\/node --enable-source-maps "my server\.js"$/m);
    expect(text).toContain(`WorkingDirectory=${directory}\nEnvironment=PWD=${directory}\n`);
    expect(text).toContain("RuntimeDirectory=shop\n");
    expect(text).toContain("PIDFile=/run/shop/shop.pid\n");
    expect(text).toContain('# The program says: new Upgrader({ pidFile: "/run/shop/shop.pid" })\n');
    expect((await unitOf({ main: "main.js", scripts: { start: "npm run it" } })).text).toMatch(
      /^ExecStart=\/\S+ main\.js$/m,
    );
  });

  test("handover unit finds handover in the program's own package, by the path of a release behind a symlink", async () => {
    const directory = temporaryDirectory();
    const release = join(directory, "releases", "1");
    mkdirSync(join(release, "node_modules"), { recursive: true });
    mkdirSync(join(release, "dist"));
    writeFileSync(join(release, "package.json"), "{}");
    symlinkSync(resolve("."), join(release, "node_modules", "handover"));
    symlinkSync(release, join(directory, "current"));
    const current = join(directory, "current");
    const { stdout } = await handover("unit", "--exec", `node ${current}/dist/server.js`, "--name", "app");
    expect(stdout).toContain(`WorkingDirectory=${current}\n`);
    const program = `${current}/node_modules/handover/bin/handover.js`;
    const [reload] = /^ExecReload=.*$/m.exec(stdout)!;
    expect(reload.replace(/=\/\S+\/node /, "=node ")).toBe(
      `ExecReload=node ${program} upgrade --pid-file /run/app/app.pid`,
    );
  });

  test("handover unit keeps the directory of systemd's socket", async () => {
    const { stdout } = await handover(
      "unit",
      "--exec",
      "node /srv/app/a.js",
      "--socket",
      "/run/app/web.sock",
    );
    expect(stdout).toContain("RuntimeDirectory=app\n");
    expect(stdout).toContain("RuntimeDirectoryPreserve=yes\n");
  });

  test("handover unit escapes a directory with a colon, which systemd would read as a symlink's name", async () => {
    const { stdout } = await handover("unit", "--exec", "node /srv/app/a.js", "--name", "shop:eu");
    expect(stdout).toContain("RuntimeDirectory=shop\\:eu\n");
    expect(stdout).toContain("PIDFile=/run/shop:eu/shop:eu.pid\n");
  });

  test("handover unit allows the time that the program's options allow", async () => {
    const timeouts = ["--drain-timeout", 600_000, "--upgrade-timeout", 120_000];
    const { stdout } = await handover("unit", "--exec", "node /srv/app/a.js", ...timeouts);
    expect(stdout).toContain("TimeoutStartSec=150\n");
    expect(stdout).toContain("TimeoutStopSec=615\n");
  });

  test("handover unit --json prints JSON", async () => {
    const run = await handover("unit", "--exec", "node /srv/app/a.js", "--socket", 80, "--json");
    expect(jsonLines(run)).toEqual([
      {
        answer: "unit",
        files: [
          { name: "app.service", content: expect.stringMatching(/^# app\.service.*\n$/s) as string },
          { name: "app.socket", content: expect.stringMatching(/ListenStream=80\n/) as string },
        ],
      },
    ]);
  });

  test("handover unit writes files, and overwrites no edited one", async () => {
    const directory = temporaryDirectory();
    const args = ["unit", "--exec", "node /srv/app/a.js", "--write", directory];
    const file = join(directory, "app.service");
    expect((await handover(...args)).stdout).toBe(`written: ${file}\nnext: systemctl daemon-reload\n`);
    expect((await handover(...args)).code).toBe(0);
    writeFileSync(file, "mine");
    expect(await handover(...args)).toEqual({
      code: 1,
      stdout: "",
      stderr: `handover: cannot write ${file}: it exists, with another content; remove it first\n`,
    });
    expect(readFileSync(file, "utf8")).toBe("mine");
  });

  test.each([
    [["--exec", "node 'a"], /cannot read the command node 'a: a quote does not end/],
    [["--exec", " "], /--exec says no program/],
    [["--exec", "npm start"], /cannot run the service by npm: systemd would follow that/],
    [["--exec", "no-such-program a"], /cannot find no-such-program on PATH: --exec needs an absolute path/],
    [
      ["--exec", "/opt/$x/node a.js"],
      /cannot write the program "\/opt\/\$x\/node" into a unit: systemd takes no \$/,
    ],
    [["--working-directory", "/a\\b"], /cannot write the directory .* systemd takes no backslash/],
    [["--pid-file", "/run/a\nUser=root"], /cannot write the PID file .* no control character/],
    [["--name", "app@"], /'app@' is invalid\. The name of a unit has letters, digits/],
    [["--user", "a b"], /'a b' is invalid\. It must be the name of a user, or a number/],
    [
      ["--type", "oneshot"],
      /'oneshot' is invalid\. Allowed choices are notify, notify-reload, simple, forking/,
    ],
    [["--watchdog", "soon"], /'soon' is invalid/],
    [["--socket", "0"], /cannot listen on "0": it must be a port/],
    [["--socket", "localhost:80"], /cannot listen on "localhost:80"/],
    [["--socket", "70000"], /cannot listen on "70000"/],
  ])("handover unit refuses %j", async (options, message) => {
    const { code, stdout, stderr } = await handover("unit", "--exec", "node /srv/app/a.js", ...options);
    expect(stderr).toMatch(message);
    expect([code, stdout]).toEqual([2, ""]);
  });

  test("handover unit fails if it does not find a program to start", async () => {
    const directory = temporaryDirectory();
    const none = await handover("unit", "--working-directory", directory);
    expect(none.stderr).toContain(
      `cannot tell what to start in ${directory}: there is no package.json; say it by --exec`,
    );
    writeFileSync(join(directory, "package.json"), '{ "scripts": { "start": "node a.js && true" } }');
    const useless = await handover("unit", "--working-directory", directory);
    expect(useless.stderr).toContain('no "start" script of the form "node …", and no "main"');
    writeFileSync(join(directory, "package.json"), "{");
    const broken = await handover("unit", "--working-directory", directory);
    expect([broken.code, broken.stderr]).toEqual([2, expect.stringContaining("cannot read") as string]);
  });
});

describe("the units of the documentation have the values of the unit that is printed", () => {
  const shared = ["Restart", "FileDescriptorStoreMax"] as const;

  test("handover unit prints both directives", async () => {
    const { stdout } = await handover("unit", "--exec", "node /srv/app/server.js");
    for (const name of shared) expect(valuesOf(name, stdout)).toEqual([String(DIRECTIVES[name])]);
  });

  const pages = ["README.md", ...readdirSync("docs").map((name) => join("docs", name))];
  const units = pages.flatMap((page) => {
    const blocks = readFileSync(page, "utf8").matchAll(/^```ini\n([^]*?)^```/gm);
    return [...blocks].flatMap(([, text]) => (text!.includes("[Service]") ? [[page, text!] as const] : []));
  });

  test.each(units)("the unit in %s has the values of the printed unit", (_, unit) => {
    for (const name of shared) {
      const other = valuesOf(name, unit).filter((value) => value !== String(DIRECTIVES[name]));
      expect({ [name]: other }).toEqual({ [name]: [] });
    }
  });

  test("docs/systemd.md shows both directives", () => {
    const [, unit = ""] = units.find(([page]) => page === "docs/systemd.md") ?? [];
    expect(shared.map((name) => valuesOf(name, unit).length)).toEqual([1, 1]);
  });
});

function valuesOf(directive: string, unit: string): string[] {
  return [...unit.matchAll(new RegExp(`^${directive}=(.*)$`, "gm"))].map(([, value]) => value!);
}

test.each([
  ["node a.js", ["node", "a.js"]],
  ["  a\tb\n", ["a", "b"]],
  [`a' b'"c d"e\\ f`, ["a bc de f"]],
  [`'' "" x`, ["", "", "x"]],
  [`"a\\"b\\n" 'c\\d'`, ['a"b\\n', "c\\d"]],
  ["", []],
])("the words of %j are %j", (command, words) => {
  expect(splitWords(command)).toEqual(words);
});

test.each([
  ["/srv/app-1.js", "/srv/app-1.js"],
  ["$HOME/%h", "$$HOME/%%h"],
  ["a b", '"a b"'],
  ['"\\', '"\\"\\\\"'],
  ["a\nb", '"a\\x0ab"'],
  [";", '";"'],
  ["", '""'],
])("the word %j is written as %s", (word, quoted) => {
  expect(quoteWord(word)).toBe(quoted);
});

/** In a package with this package.json. */
async function unitOf(content: object): Promise<{ directory: string; text: string }> {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, "package.json"), JSON.stringify(content));
  const { stdout, stderr } = await handover("unit", "--working-directory", directory);
  return { directory, text: stdout + stderr };
}

/** What systemd complains of. */
function verify(files: string[]): string {
  const { status, stdout, stderr, error } = spawnSync("systemd-analyze", ["verify", ...files], {
    encoding: "utf8",
  });
  if (error !== undefined) throw error;
  return status === 0 ? stdout + stderr : `exit code ${status}: ${stderr}`;
}
