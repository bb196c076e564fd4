import { chmodSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { once } from "node:events";
import { basename, join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { detectProcessManager } from "../../dist/process/parents.js";
import { Actor } from "../support/actor.js";
import { fixturePath, words } from "../support/faults.js";
import { freePort } from "../support/port.js";
import { handover } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";

const PM2 = { pm_id: "0", PM2_HOME: "/root/.pm2" };

test.each([
  [PM2, [], "PM2"],
  [{ pm_id: "0" }, [], undefined],
  [{ PM2_HOME: "/root/.pm2" }, [], undefined],
  [{ WATCH_REPORT_DEPENDENCIES: "1" }, [], "node --watch"],
  [{}, [["node", "/usr/bin/nodemon", "server.js"]], "nodemon"],
  [
    {},
    [
      ["sh", "-c", "x"],
      ["node", "nodemon.js"],
    ],
    "nodemon",
  ],
  [{}, [["sh"], ["sh"], ["sh"], ["node", "nodemon"]], undefined],
  [{}, [["node", "server.js", "x", "nodemon"]], undefined],
  [{}, [["node", "my-nodemon-clone"]], undefined],
  [{}, [["node", "/srv/node_modules/.bin/tsx", "watch", "server.ts"]], "tsx watch"],
  [{}, [["node", "/srv/node_modules/tsx/dist/cli.mjs", "watch", "server.ts"]], "tsx watch"],
  [{}, [["node", "/srv/node_modules/.bin/tsx", "watch.ts"]], undefined],
  [{}, [["node", "/srv/node_modules/.bin/tsx", "server.ts", "watch"]], undefined],
  [{}, [["supervisord"]], "supervisord"],
  [{}, [["sh"], ["supervisord"]], "supervisord"],
  [{}, [["sh"], ["sh"], ["supervisord"]], undefined],
  [{}, [], undefined],
])("under the environment %o and the ancestors %o the manager is %s", (env, ancestors, manager) => {
  const found = ancestors.map((one, n) => ({ pid: n + 2, name: basename(one[0]!), words: one }));
  expect(detectProcessManager(env, found, true)).toBe(manager);
});

/** A program of this name that does what the real one does when its child ends. */
function standIn(name: string, script: string): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** It runs the program, and waits for a change of its files. */
const WATCHES = '"$@"; exec tail -f /dev/null';

const throughShell = ["sh", "-ec", '"$@"; exit', "sh", process.execPath, fixturePath("runs-command.js")];

describe.each([
  ["nodemon", (program: string[]) => [standIn("nodemon", WATCHES), ...throughShell, ...program], {}],
  ["tsx watch", (program) => [standIn("tsx", `shift; ${WATCHES}`), "watch", ...program], {}],
  ["node --watch", ([node, ...program]) => [node!, "--watch", ...program], {}],
  ["PM2", (program) => program, PM2],
] as [string, (program: string[]) => string[], NodeJS.ProcessEnv][])("under %s", (name, commandOf, env) => {
  test(`under ${name} an upgrade is refused unless it is forced`, async () => {
    const pidFile = join(temporaryDirectory(), "pid");
    const command = commandOf(words("http.js", { pidFile, probation: 50 }));
    const service = Service.start("", { command, env });
    const { pid } = await service.until("accepting");
    await service.untilNoise(new RegExp(`HANDOVER_MANAGER\\] Warning: handover cannot work under ${name}: `));
    const { code, stdout } = await handover("doctor", "--pid-file", pidFile);
    expect(code).toBe(1);
    expect(stdout).toMatch(new RegExp(`^error +manager +it runs under ${name}$`, "m"));
    expect(await service.upgrade("failed")).toMatchObject({ code: "ERR_MANAGER" });
    await service.untilNoise(
      new RegExp(`^handover: upgrade failed: cannot upgrade: it runs under ${name}, `, "m"),
    );
    const refused = await handover("upgrade", "--pid-file", pidFile);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(new RegExp(`it runs under ${name}, .*; pid ${pid} keeps serving\n$`));
    expect(await service.ask()).toBe(String(pid));
    const forced = await handover("upgrade", "--pid-file", pidFile, "--force");
    expect(forced).toMatchObject({ code: 0, stderr: "" });
    expect(service.accepting).toMatchObject({ generation: 1 });
    expect(await service.ask()).toBe(String(service.accepting!.pid));
  });
});

test("a supervisor starts the program again after a forced upgrade, and the service goes on without it", async () => {
  const pidFile = join(temporaryDirectory(), "pid");
  const port = await freePort();
  const program = words("http.js", { pidFile, probation: 50, listen: { port, host: "127.0.0.1" } });
  const service = Service.start("", {
    command: [standIn("supervisord", 'while "$@"; do :; done'), ...program],
  });
  const { pid } = await service.until("accepting");
  expect((await handover("doctor", "--pid-file", pidFile)).stdout).toMatch(
    /manager +it runs under supervisord$/m,
  );
  expect(await service.upgrade("failed")).toMatchObject({ code: "ERR_MANAGER" });
  // A request that is on its way keeps the first process, whose parent is the supervisor.
  const client = connect(port, "127.0.0.1");
  onTestFinished(() => void client.destroy());
  await once(client, "connect");
  client.write("GET / HTTP/1.1\r\nHost: a\r\n");
  await service.ask();
  expect(await handover("upgrade", "--pid-file", pidFile, "--force")).toMatchObject({ code: 0, stderr: "" });
  // No supervisor has started generation 1.
  expect((await handover("doctor", "--pid-file", pidFile)).stdout).toMatch(/^ok +manager /m);
  expect(await handover("upgrade", "--pid-file", pidFile)).toMatchObject({ code: 0, stderr: "" });
  client.end("\r\n");
  await service.until("exited", { pid });
  await service.untilNoise(/cannot listen on .*: EADDRINUSE/);
  await service.exited;
  expect(service.accepting).toMatchObject({ generation: 2 });
  expect(await service.ask()).toBe(String(service.accepting!.pid));
  // The program that was started again ends before a warning of its own is printed.
  expect(service.noise.match(/HANDOVER_MANAGER/g)).toHaveLength(1);
});

test.each(["upgrade", "rehearse", "stage"])("under PM2 %s() needs the option force", async (method) => {
  const actor = await Actor.start("obeys-upgrades.js", {}, PM2);
  await expect(actor.tell("call", method)).rejects.toMatchObject({ code: "ERR_MANAGER" });
  await expect(actor.tell("call", method, { force: false })).rejects.toMatchObject({ code: "ERR_MANAGER" });
  await actor.tell("call", method, { force: true });
});

test.each([[["upgrade", "--dry-run"]], [["upgrade", "--json"]], [["stage"]]])(
  "under PM2 handover %j is refused unless it is forced",
  async (command) => {
    const pidFile = join(temporaryDirectory(), "pid");
    const service = Service.start("http.js", { settings: { pidFile, probation: 50 }, env: PM2 });
    await service.until("accepting");
    const { code, stderr } = await handover(...command, "--pid-file", pidFile);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/it runs under PM2, .* keeps serving\n$/)]);
    expect(service.alive()).toEqual([service.pid]);
    expect(await handover(...command, "--pid-file", pidFile, "--force")).toMatchObject({
      code: 0,
      stderr: "",
    });
  },
);

test("a forced upgrade is refused nevertheless if it would lose a listener", async () => {
  const pidFile = join(temporaryDirectory(), "pid");
  const settings = { pidFile, outside: await freePort() };
  const service = Service.start("unmanaged-listener.js", { settings, env: PM2 });
  await service.until("accepting");
  const { code, stderr } = await handover("upgrade", "--pid-file", pidFile, "--force");
  expect([code, stderr]).toEqual([1, expect.stringContaining("without handover")]);
});
