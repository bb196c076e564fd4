import { describe, expect, test } from "vitest";
import { Client } from "../support/client.js";
import { brief, descriptorCount, Service } from "../support/service.js";

async function start(settings: object = {}): Promise<{ service: Service; port: number }> {
  const service = Service.start("answers-generation.js", { settings: { ...brief, ...settings } });
  await service.until("accepting");
  return { service, port: service.port };
}

const post = (path: string, length: number, field = ""): string =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n${field}\r\n`;

const ask = async (client: Client): Promise<void> => expect(await client.ask()).toBe("0");
const nothing = async (): Promise<void> => {};
/** Limits of an HTTP server. */
const never = { keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0 };

describe("an HTTP/1.1 connection that moves", () => {
  test("an idle keep-alive connection moves at once, whether it was used or not", async () => {
    const { service, port } = await start();
    const clients = await Client.openAll(port, 6);
    const used = clients.slice(0, 3);
    expect(await Promise.all(used.map((client) => client.ask()))).toEqual(["0", "0", "0"]);
    await service.replace();
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 6,
      destroyed: 0,
      stayed: {},
    });
    expect(await Promise.all(clients.map((client) => client.ask()))).toEqual(Array(6).fill("1"));
  });

  test("a busy connection moves after its response", async () => {
    const { service, port } = await start();
    const client = await Client.open(port);
    client.request("/hold");
    await service.until("request");
    await service.upgrade();
    process.kill(service.pid, "SIGUSR2");
    expect(await client.answer()).toBe("0");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1, destroyed: 0 });
    expect(await client.ask()).toBe("1");
  });

  test("a connection moves after a streamed response, trailers included", async () => {
    const { service, port } = await start();
    const client = await Client.open(port);
    client.request("/stream");
    await client.until(/0 \r\n/);
    await service.upgrade();
    process.kill(service.pid, "SIGUSR2");
    expect(await client.until(/0\r\nx-end: yes\r\n\r\n/)).toBe("1\r\n0\r\n0\r\nx-end: yes\r\n\r\n");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1 });
    expect(await client.ask()).toBe("1");
  });

  test.each([
    ["of a known length", post("/echo", 10), "begun", "ended", "begunended "],
    [
      "in chunks, with trailers",
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
      "5\r\nbe",
      "gun\r\n0\r\nx-end: yes\r\n\r\n",
      "begun yes",
    ],
  ])("a connection moves after an upload %s", async (_, head, begin, end, body) => {
    const { service, port } = await start();
    const client = await Client.open(port);
    client.socket.write(head + begin);
    await service.until("request");
    await service.upgrade();
    client.socket.write(end);
    expect(await client.answer()).toBe(`0 ${body}`);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1 });
    client.socket.write(head + begin + end);
    expect(await client.answer()).toBe(`1 ${body}`);
  });

  test.each([false, true])(
    "a connection moves after an upload that waited for 100 Continue (checkContinue: %s)",
    async (continues) => {
      const { service, port } = await start({ continues });
      const client = await Client.open(port);
      const head = post("/echo", 4, "Expect: 100-continue\r\n");
      client.socket.write(head);
      await client.until(/100 Continue\r\n\r\n/);
      await service.upgrade();
      client.socket.write("body");
      expect(await client.answer()).toBe("0 body ");
      expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1 });
      client.socket.write(head);
      await client.until(/100 Continue\r\n\r\n/);
      client.socket.write("more");
      expect(await client.answer()).toBe("1 more ");
    },
  );

  test("a connection moves after a response without a body: HEAD, 204, 304", async () => {
    const { service, port } = await start();
    const clients = await Client.openAll(port, 3);
    const requests = ["HEAD /", "GET /empty", "GET /same"];
    const askAll = async (): Promise<(string | undefined)[]> =>
      Promise.all(
        clients.map(async (client, n) => {
          client.socket.write(`${requests[n]} HTTP/1.1\r\nHost: a\r\n\r\n`);
          return / (\d+) /.exec(await client.until(/\r\n\r\n/))?.[1];
        }),
      );
    expect(await askAll()).toEqual(["200", "204", "304"]);
    await service.replace();
    expect(await askAll()).toEqual(["200", "204", "304"]);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 3 });
    expect(await Promise.all(clients.map((client) => client.ask()))).toEqual(["1", "1", "1"]);
  });

  test("a connection moves after a slow client has read its large response", async () => {
    const { service, port } = await start();
    const client = await Client.open(port);
    client.socket.pause();
    client.request("/large");
    await service.until("request");
    await service.upgrade();
    client.socket.resume();
    await client.until(/\r\n\r\n/);
    await client.receives(16 * 1024 * 1024);
    expect(client.text).toMatch(/^0+$/);
    client.text = "";
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1, destroyed: 0 });
    expect(await client.ask()).toBe("1");
  });

  test("a connection moves after its pipelined requests were answered in order", async () => {
    const { service, port } = await start();
    const client = await Client.open(port);
    client.request("/hold", "/", "/count", "/");
    await service.until("request", { url: "/count" });
    await service.upgrade();
    process.kill(service.pid, "SIGUSR2");
    const answers = [
      await client.answer(),
      await client.answer(),
      await client.answer(),
      await client.answer(),
    ];
    expect(answers).toEqual(["0", "0", "0:1", "0"]);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1 });
    client.request("/", "/count");
    expect([await client.answer(), await client.answer()]).toEqual(["1", "1:1"]);
  });

  test("a connection moves with the requests that the predecessor has not read", async () => {
    const { service, port } = await start();
    const clients = await Client.openAll(port, 20);
    expect(await Promise.all(clients.map((client) => client.ask()))).toEqual(Array(20).fill("0"));
    process.kill(service.pid, "SIGHUP");
    await service.until("upgrading");
    process.kill(service.pid, "SIGSTOP");
    for (const client of clients) client.request("/", "/count");
    process.kill(service.pid, "SIGCONT");
    for (const client of clients) {
      const [first, second] = [await client.answer(), await client.answer()];
      expect(`${first}:20`).toBe(second);
    }
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 20 });
    expect(clients.map(({ text }) => text).join("")).toBe("");
  });
});

describe("a request that has arrived in part", () => {
  const whole = `${post("/echo", 4)}body`;
  const cuts = [
    "P",
    "POST /ec",
    "\r\n",
    "\r\nHo",
    "Content-Length",
    ": 4",
    ": 4\r\n",
    "4\r\n\r",
    "\r\n\r\n",
    "bo",
  ];
  const halves = cuts.map((end) => whole.slice(0, whole.indexOf(end) + end.length));

  test.each([
    ["on a new connection", async () => {}],
    ["after another request", async (client: Client) => expect(await client.ask()).toBe("0")],
  ])("a request that has arrived in part is answered once, %s", async (_, begin) => {
    const { service, port } = await start();
    const clients = await Client.openAll(port, halves.length);
    await Promise.all(clients.map(begin));
    clients.forEach((client, n) => client.socket.write(halves[n]!));
    await service.until("request", { url: "/echo" });
    await service.upgrade();
    clients.forEach((client, n) => client.socket.write(whole.slice(halves[n]!.length)));
    const answers = await Promise.all(clients.map((client) => client.answer()));
    expect(answers.filter((text) => !/^[01] body $/.test(text))).toEqual([]);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: clients.length,
      destroyed: 0,
    });
    expect(await Promise.all(clients.map((client) => client.ask()))).toEqual(clients.map(() => "1"));
    expect(clients.map(({ text }) => text).join("")).toBe("");
  });

  test("a request that has arrived in part behind an unfinished response is answered after it", async () => {
    const { service, port } = await start();
    const client = await Client.open(port);
    client.socket.write("GET /hold HTTP/1.1\r\nHost: a\r\n\r\nGET / HT");
    await service.until("request");
    await service.upgrade();
    process.kill(service.pid, "SIGUSR2");
    expect(await client.answer()).toBe("0");
    client.socket.write("TP/1.1\r\nHost: a\r\n\r\n");
    expect(await client.answer()).toBe("0");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1 });
    expect(await client.ask()).toBe("1");
  });
});

describe("an HTTP/1.1 connection that stays", () => {
  test.each([
    [
      "a connection after an Upgrade",
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    ],
    ["a tunnel", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"],
  ])("%s stays", async (_, head) => {
    const { service, port } = await start({ drainTimeout: 3_000 });
    const client = await Client.open(port);
    expect(await client.ask()).toBe("0");
    client.socket.write(head);
    await client.until(/\r\n\r\n/);
    await service.upgrade();
    await service.until("draining");
    client.socket.write("hello");
    await client.until(/^0 hello/);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 0,
      destroyed: 1,
      stayed: {},
    });
  });

  test.each([
    ["HTTP/1.1", "Connection: close\r\n"],
    ["HTTP/1.0", ""],
  ])("a connection that ends with its response stays (%s)", async (version, field) => {
    const { service, port } = await start();
    const clients = await Client.openAll(port, 20);
    for (const { socket } of clients) socket.write(`GET /hold ${version}\r\nHost: a\r\n${field}\r\n`);
    await expect.poll(() => service.lines.filter(({ event }) => event === "request").length).toBe(20);
    await service.upgrade();
    process.kill(service.pid, "SIGUSR2");
    expect(await Promise.all(clients.map(({ ended }) => ended))).toEqual(Array(20).fill("end"));
    for (const client of clients) expect(client.text).toMatch(/\r\n\r\n0$/);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 0, destroyed: 0 });
  });
});

describe("an adopted HTTP/1.1 connection", () => {
  test("server.getConnections() counts adopted connections until they have ended", async () => {
    const { service, port } = await start();
    const [first, ...others] = await Client.openAll(port, 5);
    await service.replace();
    expect(await others[0]!.ask()).toBe("1");
    expect(await first!.ask("/count")).toBe("1:5");
    for (const { socket } of others) socket.destroy();
    await expect.poll(() => first!.ask("/count")).toBe("1:1");
  });

  test("server.closeIdleConnections() closes adopted connections that are idle, and no other", async () => {
    const { service, port } = await start();
    const [parked, used, busy, asking] = await Client.openAll(port, 4);
    await service.replace();
    expect(await used!.ask()).toBe("1");
    busy!.request("/hold");
    const { pid } = await service.until("request", { url: "/hold" });
    expect(await asking!.ask("/close-idle")).toBe("1");
    expect(await Promise.all([parked!.ended, used!.ended])).toEqual(["end", "end"]);
    process.kill(pid, "SIGUSR2");
    expect(await busy!.answer()).toBe("1");
  });

  test("server.closeAllConnections() closes adopted connections", async () => {
    const { service, port } = await start();
    const [parked, busy, asking] = await Client.openAll(port, 3);
    await service.replace();
    busy!.request("/hold");
    await service.until("request", { url: "/hold" });
    asking!.request("/close-all");
    for (const client of [parked, busy, asking]) await client!.ended;
    const fresh = await Client.open(port);
    expect(await fresh.ask("/count")).toBe("1:1");
  });

  test("server.close() closes adopted connections that are idle, and waits for the others", async () => {
    const { service, port } = await start();
    const [parked, busy, asking] = await Client.openAll(port, 3);
    await service.replace();
    busy!.request("/hold");
    const { pid } = await service.until("request", { url: "/hold" });
    asking!.request("/close");
    expect(await parked!.ended).toBe("end");
    asking!.socket.destroy();
    expect(service.lines.map(({ event }) => event)).not.toContain("closed");
    process.kill(pid, "SIGUSR2");
    await busy!.response();
    busy!.socket.destroy();
    await service.until("closed", { generation: 1 });
  });

  test.each([
    ["keepAliveTimeout", "after a request", { server: { ...never, keepAliveTimeout: 4_000 } }, ask],
    ["server.timeout", "after a request", { server: never, limits: { server: 4_000 } }, ask],
    ["server.timeout", "that was never used", { server: never, limits: { server: 4_000 } }, nothing],
    ["socket.setTimeout()", "after a request", { server: never, limits: { socket: [4_000] } }, ask],
    ["socket.setTimeout()", "that was never used", { server: never, limits: { socket: [4_000] } }, nothing],
  ])("%s closes an adopted connection %s", async (_, __, settings, begin) => {
    const { service, port } = await start(settings);
    const client = await Client.open(port);
    await begin(client);
    await service.replace();
    expect(await client.ended).toBe("end");
    expect(client.text).toBe("");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1 });
    expect(await (await Client.open(port)).ask("/count")).toBe("1:1");
  });

  test.each(["headersTimeout", "requestTimeout"])(
    "%s ends an adopted connection that was never used",
    async (name) => {
      const { service, port } = await start({ server: { ...never, [name]: 4_000 } });
      const client = await Client.open(port);
      await service.replace();
      await client.until(/^HTTP\/1.1 408 .*\r\nConnection: close\r\n\r\n$/);
      expect(await client.ended).toBe("end");
      expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1 });
      expect(await (await Client.open(port)).ask("/count")).toBe("1:1");
    },
  );

  test("an adopted connection has the second that Node adds to keepAliveTimeout", async () => {
    const { service, port } = await start({ server: { ...never, keepAliveTimeout: 4_000 } });
    const client = await Client.open(port);
    const begun = performance.now();
    expect(await client.ask()).toBe("0");
    await service.replace();
    await client.ended;
    expect(performance.now() - begun).toBeGreaterThanOrEqual(5_000);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1 });
  });

  test("the program's timeout stays with an adopted connection after a further request", async () => {
    const { service, port } = await start({ server: never, limits: { socket: [4_000] } });
    const client = await Client.open(port);
    expect(await client.ask()).toBe("0");
    await service.replace();
    expect(await client.ask()).toBe("1");
    expect(await client.ended).toBe("end");
  });

  test("an adopted connection that was silent for too long emits timeout, as an accepted one does", async () => {
    const settings = { server: { ...never, keepAliveTimeout: 4_000 }, limits: { listens: true } };
    const { service, port } = await start(settings);
    const client = await Client.open(port);
    expect(await client.ask()).toBe("0");
    await service.replace();
    await service.until("timeout", { generation: 1 });
    expect(await client.ended).toBe("end");
  });

  test.each([
    ["headersTimeout", "GET / HT"],
    ["requestTimeout", `${post("/echo", 4)}bo`],
  ])("%s ends an incomplete request on an adopted connection", async (_, half) => {
    const timeouts = { headersTimeout: 1_000, requestTimeout: 1_000, connectionsCheckingInterval: 100 };
    const { service, port } = await start({ server: { keepAliveTimeout: 60_000, ...timeouts } });
    const client = await Client.open(port);
    expect(await client.ask()).toBe("0");
    await service.replace();
    client.socket.write(half);
    await client.until(/^HTTP\/1.1 408 /);
    expect(await client.ended).toBe("end");
  });

  test("maxRequestsPerSocket counts the requests before the move", async () => {
    const { service, port } = await start({ max: 3 });
    const client = await Client.open(port);
    expect([await client.ask(), await client.ask()]).toEqual(["0", "0"]);
    await service.replace();
    client.request("/");
    const { head, body } = await client.response();
    expect(body).toBe("1");
    expect(head).toMatch(/^connection: close/im);
    expect(await client.ended).toBe("end");
  });
});

test("fifty connections move through twenty upgrades, and no descriptor is left behind", async () => {
  const { service, port } = await start({ server: { keepAliveTimeout: 0, headersTimeout: 0 } });
  const clients = await Client.openAll(port, 50);
  const used = clients.slice(0, 25);
  const counts: number[] = [];
  let last = 0;
  for (let generation = 1; generation <= 20; generation++) {
    const { pid } = await service.replace();
    await service.until("alone", { pid });
    counts.push(descriptorCount(pid));
    last = pid;
    const answers = await Promise.all(used.map((client) => client.ask()));
    expect(answers).toEqual(used.map(() => String(generation)));
  }
  // A process may have a file open for a moment.
  await expect.poll(() => descriptorCount(last)).toBe(Math.min(...counts));
  expect(await Promise.all(clients.map((client) => client.ask()))).toEqual(clients.map(() => "20"));
  expect(service.noise).toBe("");
});
