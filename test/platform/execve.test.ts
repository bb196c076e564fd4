import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { constants } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { once } from "node:events";
import { describe, expect, it, onTestFinished } from "vitest";
import { check, native } from "../../dist/platform/native.js";
import { asRoot, isSkipped } from "../support/root.js";

const { EACCES, EBADF, ENOENT, EPERM } = constants.errno;
const ADDON = fileURLToPath(new URL("../../build/Release/handover.node", import.meta.url));
const FIXTURE = fileURLToPath(new URL("../fixtures/native/replaces-itself.js", import.meta.url));
const AS_PID_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

describe("a process that replaces itself five times", () => {
  it("keeps its pid, a listener, a channel and a child, and is unchanged where that fails", async () => {
    await replacesItself([], (pid, starter) => expect(pid).toBe(starter));
  });

  it.skipIf(isSkipped)(`does so as PID 1 too${asRoot}`, async () => {
    await replacesItself(AS_PID_1, (pid) => expect(pid).toBe(1));
  });
});

describe("a program that replaces a process", () => {
  it("gets the words, the environment and the descriptors, with no blocked signal and those ignored that were", async () => {
    const program = `
      const { writeSync, readFileSync, openSync } = require("node:fs");
      process.dlopen(module, ${JSON.stringify(ADDON)});
      module.exports.addRest();
      writeSync(1, readFileSync("/proc/self/status") + "---");
      const [kept, closed] = [openSync("/dev/null"), openSync("/dev/null")];
      const script = 'while IFS= read -r line; do echo "$line"; done < /proc/$$/status; echo "--- $0 $1 $NAME"; for fd in 0 1 2 ' + kept + " " + closed +
        "; do [ -e /proc/$$/fd/$fd ] && echo open || echo closed; done";
      module.exports.execve("/bin/sh", ["a shell", "-c", script, "zero", "one"], ["NAME=a b"], [0, 1, 2, kept]);`;
    // Node itself blocks SIGUSR1 then, since version 22.
    const flags = ["--disable-sigusr1"].filter((flag) => process.allowedNodeEnvironmentFlags.has(flag));
    const child = spawn(process.execPath, [...flags, "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [before, after, rest] = (await child.stdout.setEncoding("latin1").toArray()).join("").split("---");
    expect(rest).toBe(" zero one a b\nopen\nopen\nopen\nopen\nclosed\n");
    expect(lineOf(after!, "SigBlk")).toMatch(/:\t0+$/);
    expect(lineOf(after!, "SigIgn")).toBe(lineOf(before!, "SigIgn"));
    expect(lineOf(after!, "Pid")).toBe(`Pid:\t${child.pid}`);
  });
});

describe("a process that is not replaced", () => {
  it("keeps the flags of its descriptors, whatever has failed", () => {
    const [left, right] = check(native().socketpair(), "make", "a pair");
    const flags = (): string[] =>
      [left, right].map((fd) => /^flags:.*$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))![0]);
    const before = flags();
    expect(native().execve("/nowhere", [], [], [left, right, left])).toBe(-ENOENT);
    expect(native().execve("/", [], [], [left, right])).toBe(-EACCES);
    expect(native().execve("/bin/true", ["true"], [], [left, right, 99_999])).toBe(-EBADF);
    expect(flags()).toEqual(before);
    for (const fd of [left, right]) native().close(fd);
  });

  it("is a process of which a worker thread asks for that", async () => {
    const program = `
      process.dlopen(module, ${JSON.stringify(ADDON)});
      module.exports.addRest();
      require("node:worker_threads").parentPort.postMessage(module.exports.execve("/bin/true", ["true"], [], []));`;
    const worker = new Worker(program, { eval: true });
    const [[result]] = await Promise.all([once(worker, "message"), once(worker, "exit")]);
    expect(result).toBe(-EPERM);
  });
});

function lineOf(status: string, name: string): string | undefined {
  return status.split("\n").find((line) => line.startsWith(`${name}:`));
}

async function replacesItself(
  around: string[],
  checkPid: (pid: number, starter: number | undefined) => void,
): Promise<void> {
  const [ours, theirs] = check(native().socketpair(), "make", "a channel");
  const [file, ...words] = [...around, process.execPath, FIXTURE];
  const child = spawn(file, words, { stdio: ["ignore", "pipe", "inherit", theirs] });
  onTestFinished(() => {
    child.kill("SIGKILL");
    native().close(ours);
  });
  native().close(theirs);
  native().send(ours, Buffer.from("sent"), []);

  const lines = createInterface(child.stdout as NodeJS.ReadableStream)[Symbol.asyncIterator]();
  const next = async (): Promise<Record<string, unknown>> => JSON.parse((await lines.next()).value as string);
  const first = await next();
  checkPid(first["pid"] as number, child.pid);
  // It waits in the listener's queue until the last program serves.
  const client = connect(first["port"] as number, "127.0.0.1");
  const answer = client.setEncoding("latin1").toArray();
  const programs = [await next(), await next(), await next(), await next(), await next()];
  const { descriptors } = programs[0]!;
  expect(programs).toEqual([1, 2, 3, 4, 5].map((program) => ({ ...first, program, descriptors })));
  expect(await next()).toEqual({ failures: [-ENOENT, -EACCES, -EBADF], isUnchanged: true });
  expect((await answer).join("")).toBe("program 5");
  expect(await next()).toEqual({ heard: "sent", exited: { code: 3, signal: null } });
}
