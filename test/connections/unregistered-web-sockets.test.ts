import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { WebSocketServer } from "ws";
import { UnregisteredWebSockets } from "../../dist/connections/unregistered-web-sockets.js";
import { Client, selfSigned } from "../support/client.js";
import { brief, Service } from "../support/service.js";
import { frame, openRaw, WebSocketClient } from "../support/websocket.js";

async function start(settings: object): Promise<{ service: Service; port: number }> {
  const service = Service.start("unregistered-websockets.js", {
    // What is closed in the middle of the drain has three seconds to end.
    settings: { ...brief, drainTimeout: 6_000, ...settings },
  });
  const { port } = await service.until("accepting");
  return { service, port: port as number };
}

const RESTART = { code: 1012, reason: "" };

/** The close frame, as latin1. */
const CLOSE = "\x88\x02\x03\xf4";

const warnings = (service: Service): string[] =>
  [...service.noise.matchAll(/\[HANDOVER_WEBSOCKET\] Warning: (.*)/g)].map(([, text]) => text!);

test("warns once of unregistered WebSockets in an upgrade, and closes them with 1012 late in the drain", async () => {
  const { service, port } = await start({ serve: "ws" });
  const open = (): Promise<WebSocketClient> => WebSocketClient.open(`ws://127.0.0.1:${port}`);
  const clients = [await open(), await open()];
  await service.upgrade();
  await service.untilNoise(/HANDOVER_WEBSOCKET/);
  for (const client of clients) expect(await client.ask("a")).toBe("0 a");
  for (const client of clients) expect(await client.closed).toEqual(RESTART);
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0, moved: 0 });
  const closed = service.lines.filter(({ event }) => event === "closed");
  expect(closed.map(({ code }) => code)).toEqual([1012, 1012]);
  expect(warnings(service)).toEqual([expect.stringMatching(/^2 unregistered WebSocket\(s\) do not move/)]);
});

test("closes unregistered WebSockets at a stop, over TLS too, without a warning", async () => {
  for (const [scheme, settings] of [
    ["ws", {}],
    ["wss", selfSigned()],
  ] as const) {
    const { service, port } = await start({ serve: "ws", ...settings });
    const url = `${scheme}://127.0.0.1:${port}`;
    const client = await WebSocketClient.open(url, { rejectUnauthorized: false });
    process.kill(service.pid, "SIGTERM");
    expect(await client.closed).toEqual(RESTART);
    expect(await service.until("exit")).toMatchObject({ destroyed: 0 });
    expect(warnings(service)).toEqual([]);
  }
});

test.each([
  ["small", 10],
  ["medium", 1_000],
  ["large", 100_000],
])("closes an unregistered WebSocket between two of its %s compressed or plain messages", async (_, push) => {
  for (const perMessageDeflate of [false, { threshold: 0 }]) {
    const { service, port } = await start({ serve: "ws", push, server: { perMessageDeflate } });
    const client = await WebSocketClient.open(`ws://127.0.0.1:${port}`, { perMessageDeflate });
    process.kill(service.pid, "SIGHUP");
    expect(await client.closed).toEqual(RESTART);
    expect(client.messages).toEqual(client.messages.map((__, n) => String(n + 1).padEnd(push)));
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
  }
});

test("closes a WebSocket that is passed on to a backend, which hears of it from the client", async () => {
  const backend = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void backend.close());
  const heard = new Promise<number>((resolve) => {
    new WebSocketServer({ server: backend }).on("connection", (ws) => {
      ws.on("message", (data: Buffer) => ws.send(`backend ${String(data)}`)).on("close", resolve);
    });
  });
  await once(backend, "listening");
  const { service, port } = await start({
    serve: "tunnel",
    backend: (backend.address() as AddressInfo).port,
  });
  const client = await WebSocketClient.open(`ws://127.0.0.1:${port}`);
  await service.upgrade();
  expect(await client.ask("a")).toBe("backend a");
  expect(await client.closed).toEqual(RESTART);
  expect(await heard).toBe(1012);
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
});

test("ends an unregistered WebSocket whose client and server do not answer the close frame", async () => {
  const { service, port } = await start({ serve: "self" });
  const client = await openRaw(port);
  await service.upgrade();
  expect(await client.ended).toBe("end");
  expect(client.text).toBe(CLOSE);
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
});

test("sends no close frame into a frame that is half written, but one after it", async () => {
  const { service, port } = await start({ serve: "self" });
  const [half, whole] = [await openRaw(port), await openRaw(port)];
  process.kill(service.pid, "SIGHUP");
  await service.until("drains");
  for (const client of [half, whole]) client.socket.write(frame("begin"));
  await half.until(/1234/);
  await whole.until(/1234/);
  whole.socket.write(frame("finish"));
  await whole.until(/5678/);
  await whole.until(new RegExp(CLOSE));
  expect(await half.ended).not.toBe("");
  expect(half.text).toBe("");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 1 });
});

test("writes nothing on an unregistered WebSocket after its close frame", async () => {
  const { service, port } = await start({ serve: "self" });
  const client = await openRaw(port);
  process.kill(service.pid, "SIGHUP");
  await client.until(new RegExp(CLOSE));
  client.socket.write(frame("whole"));
  await service.until("read", { word: "whole" });
  await client.ended;
  expect(client.text).toBe("");
});

test("sends no close frame to a client that has got no 101, or speaks another protocol", async () => {
  const { service, port } = await start({ serve: "self", drainTimeout: 3_000 });
  const ask = async (path: string, protocol: string): Promise<Client> => {
    const client = await Client.open(port);
    client.socket.write(
      `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`,
    );
    await client.until(/\r\n\r\n/);
    return client;
  };
  const clients = [await ask("/denied", "websocket"), await ask("/", "echo")];
  await service.upgrade();
  for (const client of clients) await client.ended;
  expect(clients.map(({ text }) => text)).toEqual(["", ""]);
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 2 });
  expect(warnings(service)).toEqual([]);
});

test("looks at the first write of an answer only, also if the program wraps the writes", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  const webSockets = new UnregisteredWebSockets(server);
  onTestFinished(() => webSockets.dispose());
  onTestFinished(() => void server.close());
  server.on("upgrade", (_, socket) => {
    const write = socket.write.bind(socket) as (text: string) => boolean;
    Object.assign(socket, { write: (text: string) => write(text) });
    socket.write("HTTP/1.1 400 Bad Request\r\n\r\n");
    socket.write("HTTP/1.1 101 as the rest of an answer");
  });
  await once(server, "listening");
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  onTestFinished(() => void client.destroy());
  client.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  await once(client, "data");
  expect(webSockets.open).toEqual([]);
});

test("changes nothing for a server that upgrades no connections, or only for a while", async () => {
  const { service, port } = await start({ serve: "self", late: true });
  const socket = await openRaw(port);
  const client = await Client.open(port);
  client.socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  // The program's listener was for one connection, and is gone.
  expect(await client.answer()).toBe("upgrade: websocket\n");
  await service.upgrade();
  await socket.until(new RegExp(CLOSE));
  expect(await client.ask()).toBe("upgrade: undefined\n");
});

test("leaves an unregistered WebSocket as it was after a rollback, and closes it in the next drain", async () => {
  const { service, port } = await start({ serve: "self", probation: 30_000 });
  const client = await openRaw(port);
  process.kill(service.pid, "SIGHUP");
  const { pid } = await service.until("accepting", { generation: 1 });
  await service.until("drains");
  process.kill(pid, "SIGKILL");
  await service.until("rollback");
  client.socket.write(frame("whole"));
  await client.until(/12345678/);
  expect(await service.until("read", { word: "whole" })).toMatchObject({ isWatched: false });
  client.socket.write(frame("begin"));
  await client.until(/1234/);
  client.socket.write(frame("finish"));
  await client.until(/5678/);
  process.kill(service.pid, "SIGTERM");
  expect(await client.until(new RegExp(CLOSE))).toBe(CLOSE);
});

test("does not trust what it has seen of a WebSocket that an adapter has frozen since", async () => {
  const { service, port } = await start({ serve: "self", adapter: true, drainTimeout: 3_000 });
  const client = await openRaw(port);
  process.kill(service.pid, "SIGHUP");
  // It is watched anew since then.
  await service.untilNoise(/HANDOVER_WEBSOCKET/);
  client.socket.write(frame("begin"));
  await client.until(/1234/);
  await client.ended;
  expect(client.text).toBe("");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({
    destroyed: 1,
    stayed: { ERR_NO_TAKER: 1 },
  });
});
