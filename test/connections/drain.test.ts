import { describe, expect, test } from "vitest";
import { Client, selfSigned } from "../support/client.js";
import { Http2Client } from "../support/http2-client.js";
import { brief, Service, type Line } from "../support/service.js";

/** The last stream that the shutdown notice of HTTP/2 names. */
const ANY_STREAM = 2 ** 31 - 1;

async function start(
  protocol: string,
  settings: object = brief,
): Promise<{ service: Service; port: number }> {
  // What a drain does with connections that do not move.
  const tls = ["https", "h2", "tls"].includes(protocol) ? { ...selfSigned(), tls: false } : {};
  const service = Service.start("any-protocol.js", { settings: { ...settings, ...tls, protocol } });
  const { port } = await service.until("accepting");
  return { service, port: port as number };
}

/** Upgrades; generation 0 drains when this resolves. */
async function drainByUpgrade(service: Service): Promise<Line> {
  const successor = await service.upgrade();
  await service.until("draining");
  return successor;
}

/** Stops; generation 0 drains when this resolves, and no process takes its connections. */
async function drainByStop(service: Service): Promise<Line> {
  process.kill(service.pid, "SIGTERM");
  return service.until("draining");
}

describe.each([
  ["HTTP/1.1, at a stop", "http", drainByStop, (port: number) => Client.open(port)],
  ["HTTP/1.1 over TLS", "https", drainByUpgrade, (port: number) => Client.openTls(port)],
  ["HTTP/1.1 of an HTTP/2 server", "h2", drainByUpgrade, (port: number) => Client.openTls(port)],
])("a connection of %s, in a drain", (kind, protocol, drain, open) => {
  test(`a connection of ${kind} is told to close by its next response`, async () => {
    const { service, port } = await start(protocol);
    const client = await open(port);
    client.request("/");
    expect(await client.response()).toMatchObject({ closes: false, body: String(service.pid) });
    await drain(service);
    client.request("/");
    expect(await client.response()).toMatchObject({ closes: true, body: String(service.pid) });
    expect(await client.ended).toBe("end");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
  });

  test(`a connection of ${kind} gets its slow response to the end`, async () => {
    const { service, port } = await start(protocol);
    const client = await open(port);
    client.request("/when-draining");
    await service.until("request");
    await drain(service);
    expect(await client.response()).toMatchObject({ closes: true, body: String(service.pid) });
    expect(await client.ended).toBe("end");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
  });

  test(`a connection of ${kind} is closed late if it is idle, and so is one without a request`, async () => {
    const { service, port } = await start(protocol);
    const [idle, fresh] = [await open(port), await open(port)];
    idle.request("/");
    await idle.response();
    await drain(service);
    expect(await Promise.all([idle.ended, fresh.ended])).toEqual(["end", "end"]);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
  });

  test(`a connection of ${kind} is not cut while its client reads a large response slowly`, async () => {
    const { service, port } = await start(protocol);
    const [slow, idle] = [await open(port), await open(port)];
    slow.socket.pause();
    slow.request("/large");
    idle.request("/");
    await idle.response();
    await service.until("request", { url: "/large" });
    await drain(service);
    // By then the slow one was looked at as often.
    await idle.ended;
    slow.socket.resume();
    const header = await slow.until(/\r\n\r\n/);
    expect(header).toMatch(/content-length: 16777216/i);
    await slow.receives(16 * 1024 * 1024);
    expect(slow.text).toMatch(/^x+$/);
  });
});

test("a drain answers all pipelined requests, and the last response says close", async () => {
  const { service, port } = await start("http");
  const client = await Client.open(port);
  client.request("/when-draining", "/when-draining", "/when-draining");
  await service.until("request");
  await drainByStop(service);
  const responses = [await client.response(), await client.response(), await client.response()];
  expect(responses).toMatchObject(
    [false, false, true].map((closes) => ({ closes, body: String(service.pid) })),
  );
  expect(await client.ended).toBe("end");
});

test("a drain loses no response that waits behind a slow one", async () => {
  const { service, port } = await start("http");
  const client = await Client.open(port);
  client.request("/when-draining", "/", "/");
  await service.until("request", { url: "/" });
  await drainByStop(service);
  const responses = [await client.response(), await client.response(), await client.response()];
  expect(responses.map(({ body }) => body)).toEqual(Array(3).fill(String(service.pid)));
  expect(await client.ended).toBe("end");
});

test("a drain closes a TLS connection late if it never begins its handshake", async () => {
  const { service, port } = await start("https");
  const client = await Client.open(port);
  await service.until("connection");
  await drainByUpgrade(service);
  expect(await client.ended).toBe("end");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
});

test("a TLS connection of no known protocol may be silent until drainTimeout", async () => {
  const { service, port } = await start("tls", { ...brief, drainTimeout: 2_500 });
  const client = await Client.openTls(port);
  await service.until("secure connection");
  await drainByUpgrade(service);
  await client.ended;
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 1 });
});

test("a response whose header was sent before the drain ends in order", async () => {
  const { service, port } = await start("http");
  const client = await Client.open(port);
  client.request("/begin");
  await client.until(/begun /);
  await drainByStop(service);
  await client.until(/0\r\n\r\n/);
  expect(await client.ended).toBe("end");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
});

test("a request that had arrived by half before the drain gets its answer", async () => {
  const { service, port } = await start("http");
  const [half, idle] = [await Client.open(port), await Client.open(port)];
  idle.request("/");
  await idle.response();
  half.socket.write("GET / HTTP/1.1\r\nHo");
  await drainByStop(service);
  await idle.ended;
  half.socket.write("st: a\r\n\r\n");
  expect(await half.response()).toMatchObject({ closes: true, body: String(service.pid) });
});

describe("an HTTP/2 session without TLS", () => {
  test.each([
    ["an upgrade", drainByUpgrade],
    ["a stop", drainByStop],
  ])("an HTTP/2 session that is always busy is emptied by %s without a loss", async (_, drain) => {
    const { service, port } = await start("h2c", { ...brief, drainTimeout: 5_000 });
    const client = await Http2Client.open(port, "h2c");
    const requests = Promise.all(Array.from({ length: 50 }, async () => client.requestUntilGoaway("/")));
    await service.until("request");
    await drain(service);
    const streams = (await requests).flat();
    await client.ended;
    expect(client.goaways.slice(0, 2)).toEqual([ANY_STREAM, Math.max(...streams)]);
    expect(new Set(client.answers.keys())).toEqual(new Set(streams));
    expect(new Set(client.answers.values())).toEqual(new Set([String(service.pid)]));
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
  });
});

describe.each(["h2c", "h2"] as const)("an HTTP/2 session (%s)", (protocol) => {
  const notice = protocol === "h2c" ? [ANY_STREAM] : [];

  test(`an HTTP/2 session (${protocol}) finishes its streams, takes those on their way, and is closed when it is quiet`, async () => {
    const { service, port } = await start(protocol);
    const client = await Http2Client.open(port, protocol);
    const slow = client.request("/when-draining");
    await service.until("request");
    await drainByUpgrade(service);
    await client.untilGoaways(notice.length);
    expect(await client.answer(slow)).toBe(String(service.pid));
    const late = client.request("/");
    expect(await client.answer(late)).toBe(String(service.pid));
    await client.ended;
    expect(client.goaways.slice(0, notice.length + 1)).toEqual([...notice, late]);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
  });

  test(`an HTTP/2 session (${protocol}) whose client opens streams to the end learns which were served`, async () => {
    const { service, port } = await start(protocol, { ...brief, drainTimeout: 2_000 });
    const client = await Http2Client.open(port, protocol);
    const requests = client.requestUntilEnd("/");
    await service.until("request");
    await drainByUpgrade(service);
    await requests;
    const streams = [...client.answers.keys()];
    expect(client.goaways.slice(0, notice.length + 1)).toEqual([...notice, streams.at(-1)]);
    expect(streams).toEqual(streams.map((_, n) => 2 * n + 1));
    expect(new Set(client.answers.values())).toEqual(new Set([String(service.pid)]));
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
  });

  test(`an HTTP/2 session (${protocol}) whose stream does not end is cut at drainTimeout, after a GOAWAY that names it`, async () => {
    const { service, port } = await start(protocol, { ...brief, drainTimeout: 2_000 });
    const client = await Http2Client.open(port, protocol);
    const stream = client.request("/large");
    await service.until("request");
    await drainByUpgrade(service);
    await client.ended;
    expect(client.goaways).toEqual([...notice, stream]);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 1 });
  });

  test(`an HTTP/2 session (${protocol}) is still served after a rollback`, async () => {
    const { service, port } = await start(protocol, {});
    const client = await Http2Client.open(port, protocol);
    await client.answer(client.request("/"));
    const successor = await drainByUpgrade(service);
    await client.untilGoaways(notice.length);
    process.kill(successor.pid, "SIGKILL");
    await service.until("rollback");
    expect(await client.answer(client.request("/"))).toBe(String(service.pid));
  });
});

describe("a connection of no known protocol", () => {
  test("a connection of no known protocol stays until it ends by itself", async () => {
    const { service, client } = await startPlain({});
    await drainByUpgrade(service);
    client.socket.write("still there?");
    await client.until(/still there\?/);
    client.socket.end();
    expect(await client.ended).toBe("end");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
  });

  test("a connection of no known protocol is destroyed at drainTimeout, and counted", async () => {
    const { service, client } = await startPlain({ drainTimeout: 200 });
    await drainByUpgrade(service);
    await client.ended;
    expect(await service.until("draining")).toMatchObject({ connections: 1, timeout: 200 });
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      outcome: "upgraded",
      destroyed: 1,
    });
    expect(await service.exited).toEqual([0, null]);
  });

  test("the callback of server.close() waits for the end of a connection of no known protocol", async () => {
    const { service, client } = await startPlain({ closes: true });
    await drainByUpgrade(service);
    client.socket.write("still there?");
    await client.until(/still there\?/);
    const told = (): string[] =>
      service.lines.filter(({ generation }) => generation === 0).map(({ event }) => event);
    expect(told()).not.toContain("close callback");
    client.socket.end();
    await service.until("exited", { generation: 0 });
    expect(told().slice(-4).toSorted()).toEqual(["close callback", "close event", "exit", "exited"]);
    expect(told().at(-1)).toBe("exited");
  });

  test("a connection of no known protocol may end as the process stops", async () => {
    const { service, client } = await startPlain({});
    process.kill(service.pid, "SIGTERM");
    await service.until("draining");
    client.socket.end("bye");
    await client.until(/bye/);
    expect(await service.exited).toEqual([0, null]);
    expect(await service.until("exit")).toMatchObject({ outcome: "stopped", destroyed: 0 });
  });
});

test("a connection that speaks another protocol after an Upgrade stays until drainTimeout, and is counted", async () => {
  const { service, port } = await start("http", { ...brief, drainTimeout: 5_000 });
  const [socket, idle] = [await Client.open(port), await Client.open(port)];
  idle.request("/");
  await idle.response();
  socket.socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
  await socket.until(/\r\n\r\n/);
  await drainByStop(service);
  await idle.ended;
  socket.socket.write("still there?");
  await socket.until(/still there\?/);
  await socket.ended;
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 1 });
});

test("a rollback keeps connections alive again", async () => {
  const { service, port } = await start("https", {});
  const [client, busy] = [await Client.openTls(port), await Client.openTls(port)];
  client.request("/");
  await client.response();
  busy.request("/when-draining");
  await service.until("request", { url: "/when-draining" });
  process.kill((await drainByUpgrade(service)).pid, "SIGKILL");
  expect(await busy.response()).toMatchObject({ closes: true, body: String(service.pid) });
  await service.until("rollback");
  for (let n = 0; n < 2; n++) {
    client.request("/");
    expect(await client.response()).toMatchObject({ closes: false, body: String(service.pid) });
  }
  const fresh = await Client.openTls(port);
  fresh.request("/");
  expect(await fresh.response()).toMatchObject({ closes: false, body: String(service.pid) });
});

async function startPlain(settings: object): Promise<{ service: Service; client: Client }> {
  const service = Service.start("tcp-echo.js", { settings: { ...brief, ...settings } });
  const { port } = await service.until("accepting");
  const client = await Client.open(port as number);
  client.socket.write("hello");
  await client.until(/hello/);
  return { service, client };
}
