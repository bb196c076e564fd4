import { once } from "node:events";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { Auto, PORT } from "../support/auto.js";
import { Client, readAll, selfSigned } from "../support/client.js";
import { Crowd } from "../support/crowd.js";
import { autoOption } from "../../dist/supervisor/auto-option.js";
import { freePort } from "../support/port.js";
import { ask } from "../support/service.js";

describe("a program that does not know of handover is upgraded three times", () => {
  test.each([
    ["an ES module", "server.mjs", [autoOption()]],
    ["of CommonJS", "server.cjs", [autoOption()]],
    ["that is loaded by require", "server.mjs", ["--require", "./dist/cjs/auto/index.js"]],
  ])("%s, under load, with its keep-alive connections", async (_, fixture, nodeArgs) => {
    const auto = await Auto.start(fixture, { nodeArgs });
    await auto.service.until("listening");
    const crowd = new Crowd({ ask: async () => ask(auto.port) });
    const clients = await Client.openAll(auto.port, 8);
    const answers = async (): Promise<Set<string>> =>
      new Set(await Promise.all(clients.map((client) => client.ask())));
    expect(await answers()).toEqual(new Set([String(auto.service.pid)]));
    for (let n = 0; n < 3; n++) {
      await crowd.answered(20);
      const pid = await auto.upgrade();
      await expect.poll(answers).toEqual(new Set([String(pid)]));
      expect(await ask(auto.port)).toBe(String(pid));
    }
    await crowd.leave();
    expect(crowd.failures).toEqual([]);
    expect(await auto.list()).toEqual([expect.objectContaining({ generation: 3 })]);
    expect(await auto.service.exited).toEqual([0, null]);
    expect((await auto.run("stop", String(auto.pid))).code).toBe(0);
    await auto.service.ended();
    expect(auto.service.noise).toBe("");
  });

  test("with a server of https", async () => {
    const auto = await Auto.start("server.mjs", { settings: { kind: "https", tls: selfSigned() } });
    await auto.service.until("listening");
    for (let n = 0; n < 3; n++) {
      const pid = await auto.upgrade();
      const client = await Client.openTls(auto.port);
      expect(await client.ask()).toBe(String(pid));
    }
  });

  test("with a server of net", async () => {
    const auto = await Auto.start("server.mjs", { settings: { kind: "net" } });
    await auto.service.until("listening");
    for (let n = 0; n < 3; n++) {
      const pid = await auto.upgrade();
      expect(await readAll({ port: auto.port, host: "127.0.0.1" })).toBe(String(pid));
    }
  });
});

test("a program sees its address in the turn in which it listens, and its title warns of nothing", async () => {
  const auto = await Auto.start("server.cjs");
  expect(await auto.service.until("listens")).toMatchObject({ port: auto.port, listening: true });
  const pid = await auto.upgrade();
  expect(await auto.service.until("listens", { pid })).toMatchObject({ port: auto.port, listening: true });
  expect(await auto.service.until("listening", { pid })).toMatchObject({ address: { port: auto.port } });
  expect(auto.service.noise).toBe("");
});

describe("what a program sees of listen() is the same as without handover", () => {
  test.each([
    "port",
    "port as text",
    "port and host",
    "port, host and backlog",
    "port and backlog",
    "port, nothing and backlog",
    "port and an empty host",
    "host by name",
    "options",
    "options for IPv6",
    "path",
    "path in options",
    "nothing",
    "port 0",
    "empty text",
    "null",
    "descriptor",
    "handle",
    "too large a port",
    "wrong options",
    "signal",
    "port twice",
    "port of another server",
    "port of its own other server",
    "path in no directory",
    "host that does not exist",
    "address of another host",
    "close at once",
    "close and listen again",
  ])("%s", async (form) => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port: taken } = other.address() as { port: number };
    const see = async (nodeArgs: string[]): Promise<unknown> => {
      const { directory, port, service } = await Auto.start("listens-in-form.cjs", {
        nodeArgs,
        settings: { form, taken },
      });
      const { seen } = await service.until("seen");
      expect(service.noise).toBe("");
      return JSON.parse(
        JSON.stringify(seen).replaceAll(String(port), "0").replaceAll(directory, ""),
      ) as unknown;
    };
    expect(await see([autoOption()])).toEqual(await see([]));
    other.close();
  });
});

test("a server that is closed in the turn in which it listens may listen elsewhere", async () => {
  const auto = await Auto.start("listens-in-form.cjs", {
    settings: { form: "close at once and listen again" },
  });
  const { seen } = await auto.service.until("seen");
  const socket = join(auto.directory, "socket");
  expect(seen).toEqual([
    { now: socket, listening: true },
    "close",
    "listening",
    "callback",
    { listening: true, at: socket },
  ]);
});

describe("a program", () => {
  test("asks a server of its own on port 0 before it listens", async () => {
    const auto = await Auto.start("listens-by-plan.mjs", {
      plan: [["private"], ["listen", PORT], ["private"]],
    });
    await auto.service.until("done");
    const pid = await auto.upgrade();
    const answers = auto.service.lines.filter((line) => line.event === "private" && line.pid === pid);
    expect(answers.map(({ answer }) => answer)).toEqual([pid, pid]);
  });

  test("that asks its own fixed port while it starts reaches the old process", async () => {
    const auto = await Auto.start("listens-by-plan.mjs", {
      plan: [
        ["listen", PORT],
        ["ask", PORT],
      ],
    });
    await auto.service.until("done");
    const pid = await auto.upgrade();
    expect(await auto.service.until("asked", { pid })).toMatchObject({ answer: auto.service.pid });
  });

  test("listens on several ports, and on one more later", async () => {
    const ports = [await freePort(), await freePort()];
    const plan = [
      ["listen", PORT],
      ["listen", ports[0]],
      ["ask", PORT],
      ["listen", ports[1]],
    ] as const;
    const auto = await Auto.start("listens-by-plan.mjs", { plan });
    await auto.service.until("done");
    for (let n = 0; n < 2; n++) {
      const pid = await auto.upgrade();
      const answers = await Promise.all([auto.port, ...ports].map(async (port) => ask(port)));
      expect(answers).toEqual([String(pid), String(pid), String(pid)]);
    }
  });

  test("that takes longer than a moment between two ports is not committed before it has both", async () => {
    const port = await freePort();
    const plan = [
      ["listen", PORT],
      ["connect", 400],
      ["listen", port],
    ] as const;
    const auto = await Auto.start("listens-by-plan.mjs", { plan });
    await auto.service.until("done");
    const pid = await auto.upgrade();
    expect(await Promise.all([ask(auto.port), ask(port)])).toEqual([String(pid), String(pid)]);
    expect(auto.service.noise).toBe("");
  });

  test("that no longer opens a port of its predecessor is committed without it", async () => {
    const port = await freePort();
    const env = { HANDOVER_UPGRADE_TIMEOUT: "4000" };
    const auto = await Auto.start("listens-by-plan.mjs", {
      plan: [
        ["listen", PORT],
        ["listen", port],
      ],
      env,
    });
    await auto.service.until("done");
    auto.plan(["listen", PORT]);
    const pid = await auto.upgrade();
    expect(await ask(auto.port)).toBe(String(pid));
    await auto.service.exited;
    expect(await readAll({ port, host: "127.0.0.1" })).toBe("ECONNREFUSED");
  });

  test.each([
    ["before", (patch: string) => ["--require", patch, autoOption()]],
    ["after", (patch: string) => [autoOption(), "--require", patch]],
  ])("is upgraded if an agent has replaced listen() %s handover", async (_, argsOf) => {
    const patch = resolve("test/fixtures/auto/patches-listen.cjs");
    const auto = await Auto.start("server.cjs", { nodeArgs: argsOf(patch) });
    await auto.service.until("listening");
    const pid = await auto.upgrade();
    await auto.service.until("patched listen", { pid });
    expect(await ask(auto.port)).toBe(String(pid));
    expect(auto.service.noise).toBe("");
  });

  test("may try an address before it listens there", async () => {
    const auto = await Auto.start("listens-by-plan.mjs", {
      plan: [
        ["probe", PORT],
        ["listen", PORT],
      ],
    });
    await auto.service.until("done");
    const pid = await auto.upgrade();
    expect(await ask(auto.port)).toBe(String(pid));
  });

  test("that does not listen has no Upgrader, no signal handler and no file", async () => {
    const auto = await Auto.start("listens-by-plan.mjs", { plan: [["private"]] });
    const done = await auto.service.until("done");
    expect([done["owner"], done["listeners"]]).toEqual([undefined, 0]);
    expect(await auto.list()).toEqual([]);
  });

  test("whose worker thread listens works as without handover", async () => {
    const auto = await Auto.start("listens-by-plan.mjs", { plan: [["thread"]] });
    expect(await auto.service.until("in thread")).toMatchObject({ listeners: 0 });
    expect(await auto.service.until("done")).toMatchObject({ listeners: 0 });
    expect(await auto.list()).toEqual([]);
  });

  test("keeps a child process that listens out, in each generation", async () => {
    const auto = await Auto.start("listens-by-plan.mjs", {
      nodeArgs: [],
      env: { NODE_OPTIONS: autoOption() },
      plan: [["listen", PORT], ["child"]],
    });
    await auto.service.until("done");
    auto.plan(["child"], ["listen", PORT], ["child"]);
    const pid = await auto.upgrade();
    await auto.service.until("done", { pid });
    const children = auto.service.lines.filter(({ event }) => event === "in child");
    const out = {
      owner: expect.stringMatching(/^\d+$/) as string,
      channel: undefined,
      listeners: 0,
      listening: true,
    };
    expect(children).toEqual(children.map((line) => ({ ...line, ...out })));
    expect(children).toHaveLength(3);
  });

  test("whose listen() fails in the successor keeps serving", async () => {
    const auto = await Auto.start("listens-by-plan.mjs", { plan: [["listen", PORT]] });
    await auto.service.until("done");
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    auto.plan(["listen", PORT], ["listen", (other.address() as { port: number }).port]);
    const { code, stderr } = await auto.run("upgrade", String(auto.pid));
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/EADDRINUSE: address already in use 127\.0\.0\.1:/),
    ]);
    expect(await ask(auto.port)).toBe(String(auto.service.pid));
    other.close();
  });

  test("gets ready when it says so, with HANDOVER_READY=manual", async () => {
    const env = { HANDOVER_READY: "manual", HANDOVER_UPGRADE_TIMEOUT: "3000" };
    const plan = [["listen", PORT], ["ready"]] as const;
    const auto = await Auto.start("listens-by-plan.mjs", { plan, env });
    await auto.service.until("ready");
    const pid = await auto.upgrade();
    expect(auto.service.lines.filter((line) => line.pid === pid).map(({ event }) => event)).toEqual([
      "listening",
      "ready",
      "done",
    ]);
    auto.plan(["listen", PORT]);
    const { code, stderr } = await auto.run("upgrade", String(auto.pid));
    expect([code, stderr]).toEqual([1, expect.stringContaining("was not ready within")]);
    auto.plan(["ready"], ["listen", PORT]);
    await auto.upgrade();
  });

  test.each(["true", "false"])("over TLS moves its connections if HANDOVER_TLS=%s says so", async (moves) => {
    const settings = { kind: "https", tls: selfSigned() };
    const auto = await Auto.start("server.mjs", { settings, env: { HANDOVER_TLS: moves } });
    await auto.service.until("listening");
    const client = await Client.openTls(auto.port);
    const first = await client.ask();
    const second = String(await auto.upgrade());
    client.request("/");
    const isMoved = moves === "true";
    expect(await client.response()).toMatchObject({ body: isMoved ? second : first, closes: !isMoved });
  });

  test("with a wrong option does not start, and says why", async () => {
    const auto = await Auto.start("server.mjs", { env: { HANDOVER_DRAIN_TIMEOUT: "30s" } });
    expect(await auto.service.exited).toEqual([1, null]);
    expect(auto.service.noise).toContain(`the option "drainTimeout" must be a whole number of milliseconds`);
    expect(auto.service.noise).toContain("not '30s'");
  });

  test("that makes an Upgrader before it listens is upgraded with it", async () => {
    const auto = await Auto.start("listens-by-plan.mjs", { plan: [["upgrader", PORT]] });
    expect(await auto.service.until("own")).toMatchObject({ isCurrent: true });
    const pid = await auto.upgrade();
    expect(await auto.service.until("own", { pid })).toMatchObject({ isCurrent: true });
    expect(await ask(auto.port)).toBe(String(pid));
  });

  test("that makes an Upgrader after it has listened is refused, and told of Upgrader.current", async () => {
    const auto = await Auto.start("listens-by-plan.mjs", {
      plan: [
        ["listen", PORT],
        ["upgrader", 0],
      ],
    });
    expect(await auto.service.until("refused")).toMatchObject({
      code: "ERR_UPGRADER_EXISTS",
      message: expect.stringContaining("Upgrader.current") as string,
      has: true,
    });
  });

  test("with a SIGHUP listener of its own is upgraded, and warned", async () => {
    const auto = await Auto.start("server.mjs", { settings: { hup: true } });
    await auto.service.until("listening");
    await auto.service.untilNoise(/\[HANDOVER_SIGNAL\]/);
    process.kill(auto.service.pid, "SIGHUP");
    await auto.service.until("SIGHUP");
    expect(await auto.service.exited).toEqual([0, null]);
    expect(Number(await ask(auto.port))).not.toBe(auto.service.pid);
  });

  test("may be upgraded by another signal", async () => {
    const auto = await Auto.start("server.mjs", {
      settings: { hup: true },
      env: { HANDOVER_UPGRADE_SIGNAL: "SIGUSR2" },
    });
    await auto.service.until("listening");
    await expect.poll(async () => auto.list()).toHaveLength(1);
    process.kill(auto.service.pid, "SIGHUP");
    await auto.service.until("SIGHUP");
    process.kill(auto.service.pid, "SIGUSR2");
    expect(await auto.service.exited).toEqual([0, null]);
    expect(auto.service.noise).toBe("");
  });
});

describe("the end of a program", () => {
  test("that exits at SIGTERM comes after its drain, and a second SIGTERM cuts nothing", async () => {
    const auto = await Auto.start("server.mjs", { settings: { exits: 7 } });
    await auto.service.until("listening");
    const client = (await Client.openAll(auto.port, 1))[0]!;
    client.socket.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1");
    await ask(auto.port);
    process.kill(auto.service.pid, "SIGTERM");
    await readUntilRefused(auto.port);
    process.kill(auto.service.pid, "SIGTERM");
    expect(auto.service.lines.map(({ event }) => event)).toEqual(["listening"]);
    client.socket.write("2");
    expect((await client.response()).body).toBe(String(auto.pid));
    expect(await auto.service.exited).toEqual([7, null]);
    expect(auto.service.lines.map(({ event }) => event)).toEqual(["listening", "SIGTERM", "exit"]);
  });

  test("that stays alive after its clean-up comes by exitTimeout, with code 0 and a warning", async () => {
    const auto = await Auto.start("server.mjs", {
      settings: { stays: true },
      env: { HANDOVER_EXIT_TIMEOUT: "100" },
    });
    await auto.service.until("listening");
    await auto.upgrade();
    expect(await auto.service.exited).toEqual([0, null]);
    await auto.service.untilNoise(/HANDOVER_EXIT_TIMEOUT/);
    const own = auto.service.lines.filter(({ pid }) => pid === auto.service.pid);
    expect(own.map(({ event }) => event)).toEqual(["listening", "SIGTERM", "exit"]);
  });

  test("that closes its servers and sends the signal again is no error", async () => {
    const auto = await Auto.start("server.mjs", { settings: { closes: true } });
    await auto.service.until("listening");
    await auto.upgrade();
    expect(await auto.service.exited).toEqual([0, null]);
    const own = auto.service.lines.filter(({ pid }) => pid === auto.service.pid);
    expect(own.map(({ event, code }) => [event, code])).toEqual([
      ["listening", undefined],
      ["closed", undefined],
      ["exit", 0],
    ]);
    expect(auto.service.noise).toBe("");
  });
});

test.each([
  ["", false],
  [" whose workers accept themselves", true],
])(
  "a program of node:cluster%s works as without handover, and is told of handover run once",
  async (_, schedulesNone) => {
    const auto = await Auto.start("cluster.cjs", { settings: { schedulesNone } });
    const first = await auto.service.until("worker");
    const second = await auto.service.until("worker", {}, auto.service.lines.indexOf(first) + 1);
    expect([first["worker"], second["worker"]].map(String)).toContain(await ask(auto.port));
    await auto.service.untilNoise(/HANDOVER_CLUSTER.*handover run --auto/s);
    expect(auto.service.noise.match(/\[HANDOVER_CLUSTER\]/g)).toHaveLength(1);
    expect(await auto.list()).toEqual([]);
    process.kill(auto.service.pid, "SIGTERM");
    await auto.service.until("disconnected");
    await auto.service.ended();
  },
);

/** Waits until the process has stopped accepting. */
async function readUntilRefused(port: number): Promise<void> {
  await expect.poll(async () => readAll({ port, host: "127.0.0.1" })).toBe("ECONNREFUSED");
}
