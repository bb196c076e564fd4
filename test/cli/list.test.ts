import { describe, expect, test } from "vitest";
import { jsonLines } from "../support/program.js";
import { Sandbox } from "../support/sandbox.js";

// `list` finds every service of the user: a sandbox has no others.
describe.skipIf(Sandbox.missing)(`on a host without other services${Sandbox.why}`, () => {
  test("a command without a PID fails if no service runs, and handover list shows none", async () => {
    const sandbox = await start();
    expect(await sandbox.run("handover list")).toEqual({
      code: 0,
      stdout: "no service of this user runs\n",
      stderr: "",
    });
    expect(jsonLines(await sandbox.run("handover list --json"))).toEqual([{ answer: "list", services: [] }]);
    for (const command of ["upgrade", "reload", "status", "stop"]) {
      expect(await sandbox.run(`handover ${command}`)).toEqual({
        code: 1,
        stdout: "",
        stderr:
          "handover: no service of this user was found; name its process by its PID, --pid-file or --control\n",
      });
    }
  });

  test("a search for services without the addon fails, and says that it cannot be loaded", async () => {
    const sandbox = await start();
    for (const command of ["list", "status"]) {
      const { code, stderr } = await sandbox.run(`HANDOVER_ADDON=/no/such/addon handover ${command}`);
      expect(code).toBe(1);
      expect(stderr).toContain("cannot load the addon");
    }
  });

  test("a command without a PID means the only service, in each of its generations", async () => {
    const sandbox = await start();
    const pid = await run(sandbox, "{ probation: 300, drainTimeout: 60_000 }");
    expect((await sandbox.run("handover status")).stdout).toMatch(new RegExp(`^pid +${pid}\n`));
    expect((await sandbox.run("ls -A /run/handover")).stdout).toMatch(/^[\da-f]{16}\.sock\n$/);
    const [, busy] = /^(\d+)$/m.exec((await sandbox.run(HOLD)).stdout)!;
    expect((await sandbox.run("handover upgrade")).stdout).toMatch(
      new RegExp(`^upgrading pid ${pid}\n[^]*done: pid \\d+ serves as generation 1\n$`),
    );
    // The first generation still drains.
    const { stdout } = await sandbox.run("handover status");
    expect(stdout).toMatch(new RegExp(`predecessors +pid ${pid}, generation 0: drains, .*1 connection left`));
    const [list] = jsonLines(await sandbox.run("handover list --json"));
    expect(list).toMatchObject({ services: [{ generation: 1 }] });
    await sandbox.run(`kill ${busy}`);
    expect((await sandbox.run("handover reload --json")).stdout).toMatch(
      /"answer":"upgraded".*"generation":2/,
    );
    expect(await sandbox.run("handover stop")).toMatchObject({ code: 0, stderr: "" });
    expect((await sandbox.run("handover list; ls -A /run/handover")).stdout).toBe(
      "no service of this user runs\n",
    );
  });

  test("a service that root starts in a session has its control socket where it stays after the session", async () => {
    const sandbox = await start();
    await run(sandbox, "{}", "", "mkdir -p /run/user/0; export XDG_RUNTIME_DIR=/run/user/0");
    expect((await sandbox.run("ls -A /run/user/0; ls -A /run/handover")).stdout).toMatch(
      /^[\da-f]{16}\.sock\n$/,
    );
  });

  test("a command without a PID says which services there are, if there are several", async () => {
    const sandbox = await start();
    const pids = [
      await run(sandbox, "{}"),
      await run(sandbox, `{ pidFile: "/run/app/app.pid" }`),
      await run(sandbox, `{ controlSocket: "/run/app/control", spawn: () => ({}) }`, "it's"),
    ];
    expect(await sandbox.run("handover list")).toMatchObject({ code: 0, stderr: "" });
    const table = (await sandbox.run("handover list")).stdout.trimEnd().split("\n");
    expect(table[0]).toMatch(/^pid +generation +uptime +listeners +command +directory$/);
    expect(table.slice(1)).toEqual([
      expect.stringMatching(
        `^${pids[0]} +0 +\\S+ m?s +tcp:127.0.0.1:0#1 \\(127.0.0.1:\\d+\\) +node server.js +/srv$`,
      ),
      expect.stringMatching(`^${pids[1]} .* node server.js +/srv$`),
      expect.stringMatching(`^${pids[2]} .* node server.js 'it'\\\\''s' +/srv$`),
    ]);
    const refusal =
      `handover: this user has 3 services: pid ${pids[0]}, node server.js in /srv; pid ${pids[1]}, node server.js in /srv; ` +
      `pid ${pids[2]}, node server.js 'it'\\''s' in /srv; name one process by its PID, --pid-file or --control\n`;
    for (const command of ["upgrade", "status", "stop"]) {
      expect(await sandbox.run(`handover ${command}`)).toEqual({ code: 1, stdout: "", stderr: refusal });
    }
    const [listed] = jsonLines(await sandbox.run("handover list --json"));
    expect(listed).toEqual({
      answer: "list",
      services: pids.map((pid, n) => ({
        pid,
        generation: 0,
        state: "ready",
        uptime: expect.any(Number) as number,
        listeners: [
          { name: "tcp:127.0.0.1:0#1", address: expect.any(String) as string },
          { name: "handover:control", address: expect.any(String) as string },
        ],
        command: ["node", "server.js", ...(n === 2 ? ["it's"] : [])],
        directory: "/srv",
        control: [
          expect.stringMatching(/^\/run\/handover\/[\da-f]{16}\.sock$/) as string,
          "/run/app/app.pid.sock",
          "/run/app/control",
        ][n],
      })),
    });
    await sandbox.run(`handover stop ${pids[0]}; handover stop --control /run/app/control`);
    expect((await sandbox.run("handover stop")).stdout).toMatch(`stopping pid ${pids[1]}\n`);
  });

  test("a long command is shown in one line, and cut", async () => {
    const sandbox = await start();
    const pids = [await run(sandbox, "{}", `line\n${"x".repeat(200)}`), await run(sandbox, "{}")];
    const shown = `node server.js 'line ${"x".repeat(58)}…`;
    expect((await sandbox.run("handover list")).stdout).toMatch(
      new RegExp(`^pid .*\n${pids[0]} .* ${shown} +/srv\n${pids[1]} .* node server.js +/srv\n$`),
    );
    expect((await sandbox.run("handover stop")).stderr).toMatch(`: pid ${pids[0]}, ${shown} in /srv; pid `);
    const [listed] = jsonLines(await sandbox.run("handover list --json"));
    expect(listed).toMatchObject({
      services: [{ command: ["node", "server.js", `line\n${"x".repeat(200)}`] }, { pid: pids[1] }],
    });
    await sandbox.run(`handover stop ${pids[0]}; handover stop`);
  });

  test("a service that does not answer is listed, and counts", async () => {
    const sandbox = await start();
    const pids = [await run(sandbox, "{}"), await run(sandbox, `{ pidFile: "/run/app/app.pid" }`)];
    await sandbox.run(`kill -STOP ${pids.join(" ")}`);
    expect((await sandbox.run("handover list")).stdout).toMatch(
      new RegExp(
        `\n${pids[0]} +does not answer +/run/handover/.*\n${pids[1]} +does not answer +/run/app/app.pid.sock\n$`,
      ),
    );
    expect(jsonLines(await sandbox.run("handover list --json"))).toMatchObject([
      {
        services: [
          { pid: pids[0], state: "silent" },
          { pid: pids[1], state: "silent" },
        ],
      },
    ]);
    await sandbox.run(`kill -CONT ${pids[0]}`);
    expect(await sandbox.run("handover stop")).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(
        /this user has 2 services: .*; pid \d+ at \/run\/app\/app.pid.sock;/,
      ) as string,
    });
    await sandbox.run(`handover stop ${pids[0]}`);
    expect((await sandbox.run("handover stop")).stderr).toBe(
      `handover: the only service of this user does not answer: pid ${pids[1]} at /run/app/app.pid.sock\n`,
    );
  });

  test("handover list connects to no socket of another program, and takes no socket of a service for its control socket", async () => {
    const sandbox = await start();
    await sandbox.write("/srv/foreign.js", FOREIGN);
    await sandbox.run(`node foreign.js & ${until("/run/foreign.ready")}`);
    await run(sandbox, "{}", "/run/own.sock");
    expect(jsonLines(await sandbox.run("handover list --json"))).toMatchObject([
      { services: [{ state: "ready" }] },
    ]);
    expect((await sandbox.run("cat /run/foreign.heard")).stdout).toBe("");
  });
});

/** A client of the first service that does not end; prints the PID of the client when its request was read. */
const HOLD = `curl --silent --no-buffer "http://127.0.0.1:$(handover list --json | grep -o '127.0.0.1:[0-9]*"' | grep -o '[0-9]*"' | tr -d '"')/hold" >/run/held &
echo $!; timeout 60 sh -c 'until test -s /run/held; do :; done'`;

const SERVER = `import { createServer } from "node:http";
import { renameSync, writeFileSync } from "node:fs";
import { createServer as createNetServer } from "node:net";
import { Upgrader } from "handover";
const upg = new Upgrader(OPTIONS);
const server = createServer((request, response) => {
  if (request.url === "/hold") response.write("held\\n");
  else response.end();
});
await upg.listen(server, { port: 0, host: "127.0.0.1" });
const own = process.argv[2];
if (own?.startsWith("/")) await upg.listen(createNetServer(), { path: own, mode: 0o600 });
await upg.ready();
if (upg.generation === 0) {
  writeFileSync("/run/pid.new", String(process.pid));
  renameSync("/run/pid.new", "/run/pid");
}
await upg.exit;
process.exit();
`;

const FOREIGN = `import { createServer } from "node:net";
import { appendFileSync, chmodSync, writeFileSync } from "node:fs";
writeFileSync("/run/foreign.heard", "");
createServer((socket) => appendFileSync("/run/foreign.heard", "connected\\n")).listen("/run/foreign.sock", () => {
  chmodSync("/run/foreign.sock", 0o600);
  writeFileSync("/run/foreign.ready", "");
});
`;

async function start(): Promise<Sandbox> {
  const sandbox = await Sandbox.start();
  await sandbox.write("/srv/package.json", '{ "type": "module" }');
  return sandbox;
}

/** Starts a service; its PID when it is ready. */
async function run(sandbox: Sandbox, options: string, argument = "", before = ":"): Promise<number> {
  await sandbox.write("/srv/server.js", SERVER.replace("OPTIONS", options));
  const word = argument === "" ? "" : `"${argument}"`;
  const command = `${before}; rm -f /run/pid; node server.js ${word} >/srv/log 2>&1 & ${until("/run/pid")}; cat /run/pid`;
  const { stdout, stderr } = await sandbox.run(command);
  expect(stderr).toBe("");
  return Number(stdout);
}

/** Waits for a file, for a minute at most. */
function until(path: string): string {
  return `timeout 60 sh -c 'until test -e ${path}; do :; done'`;
}
