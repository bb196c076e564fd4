import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test } from "vitest";
import { deferred } from "../../dist/util/deferred.js";
import { startHandover } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";

const PROGRAM = "bin/handover.js";
const WITHOUT_ADDON = { HANDOVER_ADDON: "no/such/addon" };

describe.each([
  ["with the addon", {}],
  ["without the addon", WITHOUT_ADDON],
])("the output of the command %s", (_, env) => {
  test("the command writes everything to a pipe that is full, when that is read at last", async () => {
    // More than a pipe or a socket holds.
    const name = "x".repeat(240_000);
    const { path, left } = await answering(name);
    const child = startReadLate(["status", "--json", "--control", path], env);
    const exited = once(child, "exit");
    await left;
    expect(JSON.parse(await text(child.stdout))).toMatchObject({ name });
    expect((await exited)[0]).toBe(0);
  });

  test("the command ends with its own code and without a word, when no process reads its output", async () => {
    const { path } = await answering("app");
    const child = startReadLate(["status", "--control", path], env);
    child.stdout.destroy();
    const stderr = text(child.stderr);
    expect((await once(child, "exit"))[0]).toBe(0);
    expect(await stderr).toBe("");
  });

  test("handover status --watch ends when no process reads its output any longer", async () => {
    const { path } = await answering("app");
    const child = startReadLate(["status", "--watch", "0.1", "--control", path], env);
    await once(child.stdout, "data");
    child.stdout.destroy();
    expect((await once(child, "exit"))[0]).toBe(0);
  });

  test.each([
    ["bold names on a terminal", { TERM: "xterm" }, "\u001b[1mpid           \u001b[22m1\r\n"],
    ["no style on a terminal if NO_COLOR is set", { TERM: "xterm", NO_COLOR: "1" }, "pid           1\r\n"],
    ["no style on a terminal without colors", { TERM: "dumb" }, "pid           1\r\n"],
  ])("handover status prints %s", async (_title, terminal, line) => {
    const { path } = await answering("app");
    const command = `${process.execPath} ${PROGRAM} status --control ${path}`;
    const child = spawn("script", ["-qec", command, "/dev/null"], {
      env: { PATH: process.env["PATH"], ...terminal, ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const output = await text(child.stdout);
    expect(output).toContain(`\r\u001b[2K${line}`);
  });

  test("handover status says why it reaches no process, as the system does", async () => {
    const directory = temporaryDirectory();
    const service = Service.start("http.js", { settings: { controlSocket: join(directory, "control") } });
    await service.until("accepting");
    process.kill(service.pid, "SIGSTOP");
    const [silent, ...others] = await Promise.all(
      [
        join(directory, "control"),
        join(directory, "none"),
        join(directory, "x".repeat(108)),
        "package.json",
      ].map((path) => whyUnreached(path, env)),
    );
    process.kill(service.pid, "SIGCONT");
    expect(silent).toBe("the process there does not answer; it may be busy, or not ready yet\n");
    expect(others).toEqual([
      "there is no such socket\n",
      "there is no such socket\n",
      "it is not a socket\n",
    ]);
  });
});

test("the command exits as soon as it has written everything itself, and else when Node's streams have", () => {
  const directory = temporaryDirectory();
  const preloaded = join(directory, "says-before-exit.cjs");
  writeFileSync(preloaded, 'process.on("beforeExit", () => require("node:fs").writeSync(1, "by itself"));');
  const run = (env: NodeJS.ProcessEnv): [number | null, string] => {
    const words = ["--require", preloaded, PROGRAM, "status", "--control", join(directory, "none")];
    const { status, stdout } = spawnSync(process.execPath, words, { env: { ...process.env, ...env } });
    return [status, stdout.toString()];
  };
  expect(run({})).toEqual([1, ""]);
  expect(run(WITHOUT_ADDON)).toEqual([1, "by itself"]);
});

test("handover status loads no other file of JavaScript, and other commands share the modules of that one", () => {
  const directory = temporaryDirectory();
  const preloaded = join(directory, "lists-modules.cjs");
  const main = JSON.stringify(resolve("dist/bundle/cli/main.js"));
  const shares = `require(${main}) === globalThis[Symbol.for("handover.command")]`;
  const lists = `process.on("exit", () => console.log("\\n" + Object.keys(require.cache).join("\\n"), ${shares}));`;
  writeFileSync(preloaded, lists);
  const run = (...words: string[]): string[] => {
    const { stdout } = spawnSync(process.execPath, ["--require", preloaded, PROGRAM, ...words]);
    return stdout.toString().split("\n");
  };
  const own = [preloaded, `${resolve(PROGRAM)} true`, ""];
  expect(run("status", "--control", join(directory, "none"))).toEqual(["", ...own]);
  const others = run("status", "--help").filter((line) => line.startsWith("/") && !own.includes(line));
  expect(others).toContain(resolve("dist/bundle/cli/main.js"));
  expect(others.at(-1)).toMatch(/ true$/);
});

/** Starts the command. Nothing of its output is read before the test does. */
function startReadLate(args: string[], env: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill());
  return child;
}

/** A process that answers with a status; `left` resolves when a client has had its answer. */
async function answering(name: string): Promise<{ path: string; left: Promise<void> }> {
  const status = { state: "ready", generation: 0, pid: 1, uptime: 1, version: "9", node: "v20", name };
  const rest = { listeners: [], connections: 0, predecessors: [] };
  const path = join(temporaryDirectory(), "control");
  const left = deferred<void>();
  const server = createServer((socket: Socket) => {
    socket.write('{"handover":"9","pid":1}\n');
    socket.once("data", () =>
      socket.write(`${JSON.stringify({ answer: "status", status: { ...status, ...rest } })}\n`),
    );
    socket.once("close", () => left.resolve());
    socket.on("error", () => {});
  });
  server.listen(path);
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return { path, left: left.promise };
}

async function whyUnreached(path: string, env: NodeJS.ProcessEnv): Promise<string> {
  const { code, stdout, stderr } = await startHandover(["status", "--control", path], env).ended;
  expect([code, stdout]).toEqual([1, ""]);
  return stderr.replace(/^handover: cannot reach a process at .*?: /, "");
}
