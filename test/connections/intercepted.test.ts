import { describe, expect, test } from "vitest";
import { Client, selfSigned, type Response } from "../support/client.js";
import { brief, Service } from "../support/service.js";

async function start(settings: object): Promise<{ service: Service; port: number }> {
  const service = Service.start("listens-to-connections.js", { settings: { ...brief, ...settings } });
  await service.until("accepting");
  return { service, port: service.port };
}

/** The request, behind a line that the program takes off the connection. */
async function askBehindLine(client: Client): Promise<string> {
  client.socket.write("hello\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
  return client.answer();
}

/** Asks until a response closes the connection: requests may come before the refusal, which follows the commit. */
async function lastResponse(client: Client): Promise<Response> {
  for (;;) {
    client.request("/");
    const response = await client.response();
    if (response.closes) return response;
  }
}

describe("an HTTP/1.1 connection that the program reads first", () => {
  test.each([
    ["reads a line", "hello"],
    ["replaces emit", "hello"],
    ["emits again", "hello"],
    ["serves later", "nothing"],
  ])("a connection stays if the program %s, and is told to close", async (does, line) => {
    const { service, port } = await start({ does: [does] });
    const clients = await Client.openAll(port, 2);
    for (const client of clients) {
      expect(await (line === "hello" ? askBehindLine(client) : client.ask())).toBe(`0 ${line} 2`);
    }
    await service.upgrade();
    const [client, silent] = clients as [Client, Client];
    expect((await lastResponse(client)).body).toMatch(new RegExp(`^0 ${line} `));
    expect(await silent.ended).toBe("end");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 0,
      destroyed: 0,
      stayed: { ERR_INTERCEPTED: 2 },
    });
    const fresh = await Client.open(port);
    expect(await (line === "hello" ? askBehindLine(fresh) : fresh.ask())).toBe(`1 ${line} 1`);
  });

  test("a connection stays if the successor would read it first, and is told to close", async () => {
    const { service, port } = await start({ does: ["nothing", "reads a line"] });
    const client = await Client.open(port);
    expect(await client.ask()).toBe("0 nothing 1");
    await service.upgrade();
    expect((await lastResponse(client)).body).toBe("0 nothing 1");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 0,
      stayed: { ERR_INTERCEPTED: 1 },
    });
  });
});

describe("an HTTP/1.1 connection with http()", () => {
  test("its state moves with it, and the program does not read it again", async () => {
    const { service, port } = await start({ does: ["reads a line"], versions: [1, 1, 1] });
    const client = await Client.open(port);
    expect(await askBehindLine(client)).toBe("0 hello 1");
    await service.replace();
    expect(await client.ask()).toBe("1 hello again 1");
    await service.replace();
    expect(await client.ask()).toBe("2 hello again again 1");
  });

  test("its state moves with it over TLS", async () => {
    const { service, port } = await start({ versions: [1, 1, 1], ...selfSigned() });
    const client = await Client.openTls(port);
    expect(await client.ask()).toBe("0 nothing 1");
    await service.replace();
    expect(await client.ask()).toBe("1 null again 1");
    await service.replace();
    expect(await client.ask()).toBe("2 null again again 1");
  });

  test("it moves as a new one if it has not sent a byte", async () => {
    const { service, port } = await start({ does: ["reads a line"], versions: [1, 1] });
    const client = await Client.open(port);
    await service.replace();
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1, stayed: {} });
    expect(await askBehindLine(client)).toBe("1 hello 1");
  });

  test.each([
    ["has another version in the successor", { versions: [1, 2] }, "ERR_VERSION"],
    ["is not there in the successor", { versions: [1] }, "ERR_NO_TAKER"],
    ["throws in save()", { versions: [1, 1], throws: ["save"] }, "ERR_PROGRAM"],
  ])("it stays if http() %s", async (_, settings, code) => {
    const { service, port } = await start({ does: ["reads a line"], ...settings });
    const client = await Client.open(port);
    expect(await askBehindLine(client)).toBe("0 hello 1");
    await service.upgrade();
    // The successor accepts before its predecessor's drain has begun.
    await service.until("draining", { generation: 0 });
    client.request("/");
    expect(await client.response()).toMatchObject({ body: "0 hello 1", closes: true });
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 0, stayed: { [code]: 1 } });
  });

  test("it stays if it is refused while it is dormant, and is counted once when its client speaks", async () => {
    const { service, port } = await start({ does: ["reads a line"], versions: [1, 1, 2] });
    const client = await Client.open(port);
    expect(await askBehindLine(client)).toBe("0 hello 1");
    await service.replace();
    await service.upgrade();
    await service.until("draining", { generation: 1 });
    client.request("/");
    expect(await client.response()).toMatchObject({ body: "1 hello again 1", closes: true });
    expect(await service.until("exit", { generation: 1 })).toMatchObject({
      moved: 0,
      stayed: { ERR_VERSION: 1 },
    });
  });

  test("it is closed if restore() throws", async () => {
    const { service, port } = await start({ does: ["reads a line"], versions: [1, 1], throws: ["restore"] });
    const client = await Client.open(port);
    expect(await askBehindLine(client)).toBe("0 hello 1");
    await service.replace();
    client.request("/");
    expect(await client.ended).toMatch(/^(end|ECONNRESET)$/);
    await service.untilNoise(/thrown by restore/);
    const fresh = await Client.open(port);
    expect(await askBehindLine(fresh)).toBe("1 hello 1");
  });
});

test("a listener of connection that only looks on lets connections move, and learns which were adopted", async () => {
  const { service, port } = await start({ does: ["looks on"] });
  const client = await Client.open(port);
  expect(await client.ask()).toBe("0 nothing 1");
  await service.replace();
  expect(await client.ask()).toBe("1 nothing 1");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1, stayed: {} });
  await service.until("left", { generation: 0 });
  await service.until("connection", { generation: 1, adopted: true });
  await Client.open(port);
  await service.until("connection", { generation: 1, adopted: false });
});

test("listen(server, { connections: false }) moves no connection, and tells each to close", async () => {
  const { service, port } = await start({ connections: false });
  const [used, silent] = await Client.openAll(port, 2);
  expect(await used!.ask()).toBe("0 nothing 2");
  await service.upgrade();
  await service.until("draining", { generation: 0 });
  used!.request("/");
  const { head, body } = await used!.response();
  expect(body).toMatch(/^0 nothing /);
  expect(head).toMatch(/^connection: close/im);
  expect(await silent!.ended).toBe("end");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({
    moved: 0,
    destroyed: 0,
    stayed: {},
  });
});
