import { io } from "socket.io-client";
import { describe, expect, onTestFinished, test } from "vitest";
import { Auto } from "../support/auto.js";
import { selfSigned } from "../support/client.js";
import { WebSocketClient } from "../support/websocket.js";

const MOVE = { HANDOVER_WEBSOCKETS: "move" };

async function start(
  settings: object,
  env: NodeJS.ProcessEnv = {},
): Promise<{ auto: Auto; client: () => Promise<WebSocketClient> }> {
  const isSecure = "tls" in settings;
  const auto = await Auto.start("web-sockets.mjs", {
    settings: isSecure ? { ...settings, tls: selfSigned() } : settings,
    // What is closed in the middle of the drain has three seconds to end.
    env: { HANDOVER_DRAIN_TIMEOUT: "6000", ...env },
  });
  await auto.service.until("listening");
  const scheme = isSecure ? "wss" : "ws";
  const url = `${scheme}://127.0.0.1:${auto.port}/`;
  return { auto, client: () => WebSocketClient.open(url, { rejectUnauthorized: false }) };
}

describe("under handover/auto a WebSocket", () => {
  test.each([
    ["of ws", { kind: "server" }],
    ["of ws 8.0", { kind: "server", package: "ws-oldest" }],
    ["whose server is asked later", { kind: "noServer" }],
    ["over TLS", { kind: "server", tls: true }],
  ])("%s is closed with 1012 late in the drain, without a warning", async (_, settings) => {
    const { auto, client } = await start(settings);
    const one = await client();
    expect(await one.ask("a")).toBe(`${auto.service.pid} a`);
    await auto.upgrade();
    expect(await one.ask("b")).toBe(`${auto.service.pid} b`);
    expect(await one.closed).toEqual({ code: 1012, reason: "service restart" });
    expect(await auto.service.exited).toEqual([0, null]);
    expect(auto.service.noise).toBe("");
  });

  test.each([
    ["of ws", { kind: "server" }],
    ["of ws 8.0", { kind: "server", package: "ws-oldest" }],
    ["whose server is asked later", { kind: "noServer" }],
  ])("%s moves three times if the program says so", async (_, settings) => {
    const { auto, client } = await start(settings, MOVE);
    const one = await client();
    for (let n = 0; n < 3; n++) {
      const pid = await auto.upgrade();
      await expect.poll(async () => one.ask("a")).toBe(`${pid} a`);
    }
    expect(one.isClosed).toBe(false);
    expect(await auto.service.until("closed", { pid: auto.service.pid })).toMatchObject({ code: 1012 });
    expect(auto.service.noise).toBe("");
  });
});

test("a WebSocket whose server the program has registered moves with its state", async () => {
  const { auto, client } = await start({ kind: "registered" });
  await auto.service.until("registered");
  const one = await client();
  expect(await one.ask("a")).toBe(`${auto.service.pid} 1`);
  const pid = await auto.upgrade();
  expect(await one.ask("b")).toBe(`${pid} 2`);
  expect(one.isClosed).toBe(false);
});

async function connect(
  auto: Auto,
): Promise<{ add: () => Promise<{ pid: number; count: number }>; told: string[] }> {
  const socket = io(`http://127.0.0.1:${auto.port}`, { transports: ["websocket"], reconnectionDelay: 10 });
  onTestFinished(() => void socket.disconnect());
  const told: string[] = [];
  for (const event of ["connect", "disconnect"]) socket.on(event, () => told.push(event));
  await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
  return { add: () => socket.timeout(60_000).emitWithAck("add"), told };
}

describe("under handover/auto a client of socket.io", () => {
  test.each([
    ["socket.io", { io: { connectionStateRecovery: {} } }, {}],
    ["socket.io, by require", { io: { connectionStateRecovery: {} } }, {}],
    ["socket.io, late", { io: { connectionStateRecovery: {} } }, {}],
    ["socket.io", {}, MOVE],
  ])("of a server %s %o stays connected over three upgrades with %o", async (kind, settings, env) => {
    const { auto } = await start({ kind, ...settings }, env);
    const { add, told } = await connect(auto);
    const counts: number[] = [];
    for (let n = 0; n < 3; n++) {
      const pid = await auto.upgrade();
      for (;;) {
        const answer = await add();
        counts.push(answer.count);
        if (answer.pid === pid) break;
      }
    }
    expect(counts).toEqual(counts.map((_, n) => n + 1));
    expect(told).toEqual(["connect"]);
    expect(auto.service.noise).toBe("");
  });

  test("of a server without connectionStateRecovery is told to reconnect, and does", async () => {
    const { auto } = await start({ kind: "socket.io" });
    const { add, told } = await connect(auto);
    const pid = await auto.upgrade();
    expect(await auto.service.exited).toEqual([0, null]);
    expect(await add()).toEqual({ pid, count: 1 });
    expect(told).toEqual(["connect", "disconnect", "connect"]);
    expect(auto.service.noise).toBe("");
  });
});

test("a wrong choice for the WebSockets ends the program, and says why", async () => {
  const auto = await Auto.start("web-sockets.mjs", {
    settings: { kind: "server" },
    env: { HANDOVER_WEBSOCKETS: "yes" },
  });
  expect(await auto.service.exited).toEqual([1, null]);
  expect(auto.service.noise).toContain(`the option "webSockets" must be "move" or "stay", not 'yes'`);
});
