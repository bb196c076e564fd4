import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, readFileSync, statSync, unlinkSync, watch, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { ControlClient } from "../../dist/control/client.js";
import { connectToPid } from "../../dist/control/discover.js";
import { inheritedBinding } from "../../dist/control/binding.js";
import { ControlServer } from "../../dist/control/server.js";
import { forAnotherUser, NOBODY } from "../support/another-user.js";
import { DrivenProcess, until } from "../support/fake-env.js";
import { handover } from "../support/program.js";
import { openRequest } from "../support/requests.js";
import { asRoot, isSkipped } from "../support/root.js";
import { Service, temporaryDirectory } from "../support/service.js";

const TIMEOUT = expect.stringMatching(/^a timeout must be from 1 to 2147483647 ms, not /) as string;

describe("the control socket", () => {
  test("the control socket has mode 0600 from its first moment", async () => {
    const control = join(temporaryDirectory(), "control");
    const modes = new Set<number>();
    const look = (): unknown => modes.add(statSync(control).mode & 0o777);
    const watcher = watch(dirname(control), (_, name) => name === "control" && look());
    onTestFinished(() => watcher.close());
    const service = Service.start("http.js", { settings: { controlSocket: control } });
    await service.until("accepting");
    look();
    expect([...modes]).toEqual([0o600]);
  });

  // Only root can be another user.
  test.skipIf(isSkipped)(
    `the control socket turns another user away, whatever its mode${asRoot}`,
    async () => {
      const { control } = await startService("http.js");
      chmodSync(dirname(control), 0o755);
      expect(readAs(NOBODY, control)).toBe("EACCES");
      chmodSync(control, 0o666);
      expect(JSON.parse(readAs(NOBODY, control))).toEqual({
        answer: "failed",
        code: "ERR_CONTROL",
        message: "only the same user, or root, may control this process",
      });
    },
  );

  test("the control socket keeps its clients with the process that they reached", async () => {
    const { service, control } = await startService("echoes-body.js", { probation: 100 });
    const request = await openRequest(service);
    const client = await ControlClient.connect(control);
    process.kill(service.pid, "SIGHUP");
    const { pid } = await service.until("accepting", { generation: 1 });
    const [old, young] = [client, await ControlClient.connect(control)];
    expect([old.pid, young.pid]).toEqual([service.pid, pid]);
    expect(await old.ask({ command: "status" })).toMatchObject({
      status: { pid: service.pid, generation: 0, state: "draining", connections: 1 },
    });
    expect(await young.ask({ command: "status" })).toMatchObject({ status: { pid, generation: 1 } });
    request.end();
    await service.until("exited", { generation: 0 });
  });

  test("the control socket reports the options and the successor's command", async () => {
    const { service, control } = await startService("http.js", { drainTimeout: 1_234 });
    const { status } = await (await ControlClient.connect(control)).ask({ command: "status" });
    expect(status.settings).toMatchObject({
      drainTimeout: 1_234,
      upgradeTimeout: 60_000,
      controlSocket: control,
    });
    expect(status.command).toMatchObject({
      words: readFileSync(`/proc/${service.pid}/cmdline`, "utf8").split("\0").slice(0, -1),
      path: process.env["PATH"],
    });
  });

  test("the control socket answers before its process exits, and a silent client does not delay that", async () => {
    const { service, control } = await startService("echoes-body.js");
    const request = await openRequest(service);
    const silent = await ControlClient.connect(control);
    const stop = (await ControlClient.connect(control)).ask({ command: "stop" });
    await service.until("draining");
    request.end();
    expect(await stop).toMatchObject({ answer: "stopped", outcome: "stopped", destroyed: 0 });
    await expect(silent.ask({ command: "status" })).rejects.toMatchObject({ code: "ERR_CONTROL" });
    await service.ended();
  });

  test("the control socket closes in time although a request is never answered", async () => {
    const driven = new DrivenProcess({ controlSocket: false });
    await driven.generation.ready();
    const { sockets, inventory } = driven.generation.context;
    let isAsked = false;
    const stage = async (): Promise<never> => {
      isAsked = true;
      return new Promise(() => {});
    };
    const server = new ControlServer(Object.assign(driven.generation, { stage }), driven.emitter);
    const control = join(temporaryDirectory(), "control");
    await server.open(inheritedBinding(sockets, inventory), control);
    const answer = (await ControlClient.connect(control)).ask({ command: "stage" });
    await until(() => isAsked, "the request");
    await Promise.all([expect(answer).rejects.toMatchObject({ code: "ERR_CONTROL" }), server.close(1)]);
  });

  test("the control socket refuses a second upgrade while one is in progress", async () => {
    const { service, control } = await startService("faulty-successor.js", { fault: "hang" });
    const first = (await ControlClient.connect(control)).ask({ command: "upgrade" });
    first.catch(() => {});
    await service.until("upgrading");
    const second = (await ControlClient.connect(control)).ask({ command: "upgrade" });
    await expect(second).rejects.toMatchObject({ code: "ERR_UPGRADE_IN_PROGRESS" });
    const stop = (await ControlClient.connect(control)).ask({ command: "stop" });
    await expect(first).rejects.toMatchObject({ code: "ERR_STOPPED" });
    expect(await stop).toMatchObject({ answer: "stopped" });
  });

  test.each([
    ["garbage", "\u0000\u0001GET / HTTP/1.1\r\n\r\n", "a request must be one line of JSON"],
    ["a number", "1\n", "a request must be one line of JSON"],
    ["an endless line", "x".repeat(300_000), "a request must be one line of JSON"],
    ["an unknown command", '{"command":"fly"}\n', 'there is no command "fly"'],
    ["no command", "{}\n", "there is no command undefined"],
    ["a timeout that is too long", '{"command":"upgrade","timeout":2147483648}\n', TIMEOUT, "ERR_OPTION"],
    ["a timeout that is no number", '{"command":"rehearse","timeout":"1"}\n', TIMEOUT, "ERR_OPTION"],
  ])(
    "the control socket answers %s with an error, and its process keeps serving",
    async (_, words, message, code = "ERR_CONTROL") => {
      const { service, control } = await startService("http.js");
      const socket = connect({ path: control });
      socket.write(words);
      const [, answer] = (await readAll(socket)).trimEnd().split("\n");
      expect(JSON.parse(answer!)).toEqual({ answer: "failed", code, message });
      const client = await connectToPid(service.pid);
      expect(await client.ask({ command: "status" })).toMatchObject({ status: { state: "ready" } });
      expect(service.noise).toBe("");
    },
  );

  test("the control socket reads a request that arrives byte by byte", async () => {
    const { control } = await startService("http.js");
    const socket = connect({ path: control });
    for (const byte of '{"command":"status"}\n') socket.write(byte);
    expect(await readAll(socket)).toMatch(/^\{"handover":.*\n\{"answer":"status",.*\n$/);
  });
});

describe("a client of the control socket", () => {
  test.each([
    ["says nothing", () => {}, "the process there does not answer", 500],
    [
      "says only the half",
      (socket: Socket) => socket.write('{"handover":"9",'),
      "the process there does not answer",
      500,
    ],
    ["hangs up", (socket: Socket) => socket.end(), "closed the connection without a greeting"],
    [
      "is a web server",
      (socket: Socket) => socket.end("HTTP/1.1 400 \r\n\r\n"),
      "another program answers there",
    ],
    ["greets otherwise", (socket: Socket) => socket.write('{"hello":1}\n'), "another program answers there"],
    ["dies later", (socket: Socket) => socket.end('{"handover":"9","pid":1}\n'), "exited without an answer"],
    [
      "does not understand",
      (socket: Socket) =>
        socket.write('{"handover":"9","pid":1}\n{"answer":"failed","code":"ERR_X","message":"no"}\n'),
      "no",
    ],
  ])(
    "a client of the control socket rejects if the socket %s",
    async (_, greet, message, timeout = 60_000) => {
      const path = await listen(greet);
      const asking = ControlClient.connect(path, timeout).then((client) => client.ask({ command: "status" }));
      await expect(asking).rejects.toThrow(message);
    },
  );

  test("a client of the control socket reads characters and lines that arrive byte by byte, before and after it has asked", async () => {
    const answer = '{"phase":"…"}\n{"answer":"failed","code":"ERR_X","message":"größer €"}\n';
    const path = await listen((socket) => {
      sendByByte(socket, Buffer.from('{"handover":"9","pid":1}\n'));
      socket.once("data", () => sendByByte(socket, Buffer.from(answer)));
    });
    const client = await ControlClient.connect(path);
    const phases: unknown[] = [];
    const asking = client.ask({ command: "status" }, (phase) => phases.push(phase.phase));
    await expect(asking).rejects.toThrow("größer €");
    expect(phases).toEqual(["…"]);
  });

  // Only root can be another user.
  test.skipIf(isSkipped)(
    `the commands trust no control socket that another user has put beside the PID file${asRoot}`,
    async () => {
      const directory = temporaryDirectory();
      chmodSync(directory, 0o777);
      const pidFile = join(directory, "pid");
      writeFileSync(pidFile, `${process.pid}\n`);
      const answer = `{"handover":"9","pid":${process.pid}}\n{"answer":"stopped","destroyed":0}\n`;
      const program = `require("net").createServer((c) => c.write(${JSON.stringify(answer)})).listen("${pidFile}.sock", () => console.log())`;
      const impostor = spawn(forAnotherUser().node, ["--eval", program], { uid: NOBODY, cwd: "/", env: {} });
      onTestFinished(() => void impostor.kill());
      await once(impostor.stdout, "data");
      expect(await handover("stop", "--pid-file", pidFile)).toEqual({
        code: 1,
        stdout: "",
        stderr: `handover: the socket ${pidFile}.sock belongs to uid ${NOBODY}, and process ${process.pid} to uid 0\n`,
      });
    },
  );

  test("the commands print no control character that a process sends", async () => {
    const evil = "\u001b]0;x\u0007\u001b[2Ja\rb\u009b8m\u007f";
    const path = await listen((socket) =>
      socket.write(`{"handover":"9","pid":1}\n${JSON.stringify({ answer: "failed", message: evil })}\n`),
    );
    const text = await handover("status", "--control", path);
    expect(text).toMatchObject({ code: 1, stderr: "handover: ]0;x[2Jab8m\n" });
    const json = await handover("status", "--control", path, "--json");
    expect(json.stdout).not.toMatch(/(?!\n)\p{Cc}/u);
    expect(JSON.parse(json.stdout)).toMatchObject({ message: evil });
  });

  test("the control socket whose file was removed is bound again by an upgrade, and the error says so", async () => {
    const { service, control } = await startService("http.js", { probation: 50 });
    unlinkSync(control);
    await expect(connectToPid(service.pid)).rejects.toThrow(
      `cannot reach process ${service.pid}: it listens at ${control}, and that file was removed; ` +
        "an upgrade by signal creates a control socket again",
    );
    const { pid } = await service.replace();
    expect(statSync(control).mode & 0o777).toBe(0o600);
    const client = await ControlClient.connect(control);
    expect(await client.ask({ command: "status" })).toMatchObject({ status: { pid, generation: 1 } });
    await service.replace();
    expect((await ControlClient.connect(control)).pid).toBe(service.accepting!.pid);
    expect(service.noise).toBe("");
  });

  test("the control socket is bound again after a successor that had bound it was rolled back", async () => {
    const bug = join(temporaryDirectory(), "bug");
    writeFileSync(bug, "");
    const settings = { die: "accepting", dieWhile: bug, probation: 20_000 };
    const { service, control } = await startService("pauses-at-phases.js", settings);
    unlinkSync(control);
    await service.upgrade("rollback");
    await expect(ControlClient.connect(control)).rejects.toThrow("the process that owned it has exited");
    unlinkSync(bug);
    const { pid } = await service.upgrade();
    expect((await ControlClient.connect(control)).pid).toBe(pid);
  });

  test("a program that asks again and again comes to its event loop between two answers", async () => {
    const { control } = await startService("http.js");
    let turns = 0;
    const ticking = setInterval(() => turns++, 0);
    onTestFinished(() => clearInterval(ticking));
    for (let n = 0; n < 50; n++) await (await ControlClient.connect(control)).ask({ command: "status" });
    expect(turns).toBeGreaterThan(0);
  });

  test("a client of the control socket rejects for a path at which no process listens", async () => {
    const path = join(temporaryDirectory(), "control");
    await expect(ControlClient.connect(path)).rejects.toThrow(`at ${path}: there is no such socket`);
    const program = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`;
    spawnSync(process.execPath, ["--eval", program]);
    await expect(ControlClient.connect(path)).rejects.toThrow("the process that owned it has exited");
    writeFileSync(`${path}.txt`, "");
    await expect(ControlClient.connect(`${path}.txt`)).rejects.toThrow(
      `cannot reach a process at ${path}.txt: it is not a socket`,
    );
  });

  test("a client of the control socket ignores unknown fields and messages", async () => {
    const answer = '{"answer":"stopped","outcome":"stopped","destroyed":0,"later":1}';
    const path = await listen((socket) =>
      socket.write(`{"handover":"9","pid":1}\n{"note":1}\n{"phase":"moving"}\n${answer}\n`),
    );
    const phases: string[] = [];
    const client = await ControlClient.connect(path);
    const stopped = await client.ask({ command: "stop" }, ({ phase }) => phases.push(phase));
    expect([stopped.destroyed, phases]).toEqual([0, ["moving"]]);
  });

  test("a client of the control socket sends nothing to foreign sockets when it looks for one", async () => {
    const path = join(temporaryDirectory(), "foreign");
    // Without the addon: in this process, which has it, the commands of other tests would look for a service, too.
    const child = spawn(process.execPath, ["--eval", FOREIGN, path], { stdio: ["pipe", "pipe", "inherit"] });
    onTestFinished(() => void child.kill());
    const closed = once(child, "close");
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
    await expect.poll(() => said).toBe("listens\n");
    // Open to others, which a control socket is not.
    await expect(connectToPid(child.pid!)).rejects.toThrow(/cannot find a control socket/);
    chmodSync(path, 0o600);
    await expect(connectToPid(child.pid!)).rejects.toThrow(
      /no longer accepts: process 1 answers at its control socket /,
    );
    child.stdin.end();
    await closed;
    expect(said).toBe("listens\nheard 0 characters\n");
  });
});

/** A server that greets as a service does, and says what it has heard of each client. It ends with its input. */
const FOREIGN = `
  const server = require("node:net").createServer((socket) => {
    let heard = "";
    socket.write('{"handover":"9","pid":1}\\n');
    socket.on("error", () => {}).on("data", (chunk) => (heard += chunk));
    socket.on("close", () => console.log("heard", heard.length, "characters"));
  });
  server.listen(process.argv[1], () => console.log("listens"));
  process.stdin.on("end", () => server.close()).resume();`;

async function startService(fixture: string, settings = {}): Promise<{ service: Service; control: string }> {
  const control = join(temporaryDirectory(), "control");
  const service = Service.start(fixture, { settings: { controlSocket: control, ...settings } });
  await service.until("accepting");
  return { service, control };
}

/** A server of this test, at a path of its own. */
async function listen(greet: (socket: Socket) => unknown): Promise<string> {
  const path = join(temporaryDirectory(), "foreign");
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on("error", () => {}));
    greet(socket);
  });
  server.listen(path);
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await once(server, "listening");
  return path;
}

/** What a process of another user reads from a socket, or why it cannot. */
function readAs(uid: number, path: string): string {
  const program = `
    const socket = require("node:net").connect({ path: process.argv[1] });
    socket.on("error", ({ code }) => process.stdout.write(code));
    socket.pipe(process.stdout);
  `;
  return execFileSync(forAnotherUser().node, ["--eval", program, path], {
    uid,
    cwd: "/",
    env: {},
    encoding: "utf8",
  });
}

async function readAll(socket: Socket): Promise<string> {
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  // The other end may close before it has read everything.
  socket.on("error", () => {});
  await once(socket, "close");
  return text;
}

/** Each byte in a turn of its own. */
function sendByByte(socket: Socket, bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  socket.write(bytes.subarray(0, 1), () => setImmediate(sendByByte, socket, bytes.subarray(1)));
}
