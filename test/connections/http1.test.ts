import { describe, expect, test } from "vitest";
import { Client } from "../support/client.js";
import { answer, ask, departures, openAll, replace, response, startMoving } from "../support/moving.js";
import { descriptorCount } from "../support/service.js";
import { upgrade } from "../support/steps.js";

const post = (path: string, length: number, field = ""): string =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n${field}\r\n`;

describe("a connection moves", () => {
  test("at once if it is idle, whether it was used or not", async () => {
    const { service, port } = await startMoving();
    const clients = await openAll(port, 6);
    const used = clients.slice(0, 3);
    expect(await Promise.all(used.map((client) => ask(client)))).toEqual(["0", "0", "0"]);
    await upgrade(service);
    expect(await departures(service)).toMatchObject({ moved: 6, destroyed: 0, stayed: {} });
    expect(await Promise.all(clients.map((client) => ask(client)))).toEqual(Array(6).fill("1"));
  });

  test("after the response that it is busy with", async () => {
    const { service, port } = await startMoving();
    const client = await Client.open(port);
    client.request("/hold");
    await service.until("request");
    await replace(service);
    process.kill(service.pid, "SIGUSR2");
    expect(await answer(client)).toBe("0");
    expect(await departures(service)).toMatchObject({ moved: 1, destroyed: 0 });
    expect(await ask(client)).toBe("1");
  });

  test("after a streamed response, trailers included", async () => {
    const { service, port } = await startMoving();
    const client = await Client.open(port);
    client.request("/stream");
    await client.until(/0 \r\n/);
    await replace(service);
    process.kill(service.pid, "SIGUSR2");
    expect(await client.until(/0\r\nx-end: yes\r\n\r\n/)).toBe("1\r\n0\r\n0\r\nx-end: yes\r\n\r\n");
    expect(await departures(service)).toMatchObject({ moved: 1 });
    expect(await ask(client)).toBe("1");
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
  ])("after an upload %s", async (_, head, begin, end, body) => {
    const { service, port } = await startMoving();
    const client = await Client.open(port);
    client.socket.write(head + begin);
    await service.until("request");
    await replace(service);
    client.socket.write(end);
    expect(await answer(client)).toBe(`0 ${body}`);
    expect(await departures(service)).toMatchObject({ moved: 1 });
    client.socket.write(head + begin + end);
    expect(await answer(client)).toBe(`1 ${body}`);
  });

  test.each([false, true])("after an upload that was asked for: `checkContinue` %s", async (continues) => {
    const { service, port } = await startMoving({ continues });
    const client = await Client.open(port);
    const head = post("/echo", 4, "Expect: 100-continue\r\n");
    client.socket.write(head);
    await client.until(/100 Continue\r\n\r\n/);
    await replace(service);
    client.socket.write("body");
    expect(await answer(client)).toBe("0 body ");
    expect(await departures(service)).toMatchObject({ moved: 1 });
    client.socket.write(head);
    await client.until(/100 Continue\r\n\r\n/);
    client.socket.write("more");
    expect(await answer(client)).toBe("1 more ");
  });

  test("after responses without a body: HEAD, 204, 304", async () => {
    const { service, port } = await startMoving();
    const clients = await openAll(port, 3);
    const requests = ["HEAD /", "GET /empty", "GET /same"];
    const askAll = async (): Promise<(string | undefined)[]> =>
      Promise.all(
        clients.map(async (client, n) => {
          client.socket.write(`${requests[n]} HTTP/1.1\r\nHost: a\r\n\r\n`);
          return / (\d+) /.exec(await client.until(/\r\n\r\n/))?.[1];
        }),
      );
    expect(await askAll()).toEqual(["200", "204", "304"]);
    await upgrade(service);
    expect(await askAll()).toEqual(["200", "204", "304"]);
    expect(await departures(service)).toMatchObject({ moved: 3 });
    expect(await Promise.all(clients.map((client) => ask(client)))).toEqual(["1", "1", "1"]);
  });

  test("after a response that is still being flushed to a slow reader", async () => {
    const { service, port } = await startMoving();
    const client = await Client.open(port);
    client.socket.pause();
    client.request("/large");
    await service.until("request");
    await replace(service);
    client.socket.resume();
    await client.until(/\r\n\r\n/);
    await client.receives(16 * 1024 * 1024);
    expect(client.text).toMatch(/^0+$/);
    client.text = "";
    expect(await departures(service)).toMatchObject({ moved: 1, destroyed: 0 });
    expect(await ask(client)).toBe("1");
  });

  test("after pipelined requests, which are answered in order", async () => {
    const { service, port } = await startMoving();
    const client = await Client.open(port);
    client.request("/hold", "/", "/count", "/");
    await service.until("request", { url: "/count" });
    await replace(service);
    process.kill(service.pid, "SIGUSR2");
    const answers = [await answer(client), await answer(client), await answer(client), await answer(client)];
    expect(answers).toEqual(["0", "0", "0:1", "0"]);
    expect(await departures(service)).toMatchObject({ moved: 1 });
    client.request("/", "/count");
    expect([await answer(client), await answer(client)]).toEqual(["1", "1:1"]);
  });

  test("with what the old process has not read", async () => {
    const { service, port } = await startMoving();
    const clients = await openAll(port, 20);
    expect(await Promise.all(clients.map((client) => ask(client)))).toEqual(Array(20).fill("0"));
    process.kill(service.pid, "SIGHUP");
    await service.until("upgrading");
    process.kill(service.pid, "SIGSTOP");
    for (const client of clients) client.request("/", "/count");
    process.kill(service.pid, "SIGCONT");
    for (const client of clients) {
      const [first, second] = [await answer(client), await answer(client)];
      expect(`${first}:20`).toBe(second);
    }
    expect(await departures(service)).toMatchObject({ moved: 20 });
    expect(clients.map(({ text }) => text).join("")).toBe("");
  });
});

describe("a request of which a part is there", () => {
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
    ["after another request", async (client: Client) => expect(await ask(client)).toBe("0")],
  ])("is answered once, %s", async (_, begin) => {
    const { service, port } = await startMoving();
    const clients = await openAll(port, halves.length);
    await Promise.all(clients.map(begin));
    clients.forEach((client, n) => client.socket.write(halves[n]!));
    await service.until("request", { url: "/echo" });
    await replace(service);
    clients.forEach((client, n) => client.socket.write(whole.slice(halves[n]!.length)));
    const answers = await Promise.all(clients.map(answer));
    expect(answers.filter((text) => !/^[01] body $/.test(text))).toEqual([]);
    expect(await departures(service)).toMatchObject({ moved: clients.length, destroyed: 0 });
    expect(await Promise.all(clients.map((client) => ask(client)))).toEqual(clients.map(() => "1"));
    expect(clients.map(({ text }) => text).join("")).toBe("");
  });

  test("behind a response that is not finished is answered after it", async () => {
    const { service, port } = await startMoving();
    const client = await Client.open(port);
    client.socket.write("GET /hold HTTP/1.1\r\nHost: a\r\n\r\nGET / HT");
    await service.until("request");
    await replace(service);
    process.kill(service.pid, "SIGUSR2");
    expect(await answer(client)).toBe("0");
    client.socket.write("TP/1.1\r\nHost: a\r\n\r\n");
    expect(await answer(client)).toBe("0");
    expect(await departures(service)).toMatchObject({ moved: 1 });
    expect(await ask(client)).toBe("1");
  });
});

describe("a connection stays", () => {
  test.each([
    ["that was upgraded", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"],
    ["that is a tunnel", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"],
  ])("%s", async (_, head) => {
    const { service, port } = await startMoving({ drainTimeout: 1_000 });
    const client = await Client.open(port);
    expect(await ask(client)).toBe("0");
    client.socket.write(head);
    await client.until(/\r\n\r\n/);
    await replace(service);
    await service.until("draining");
    client.socket.write("hello");
    await client.until(/^0 hello/);
    expect(await departures(service)).toMatchObject({ moved: 0, destroyed: 1, stayed: {} });
  });

  test.each([
    ["HTTP/1.1", "Connection: close\r\n"],
    ["HTTP/1.0", ""],
  ])("that ends with its response (%s)", async (version, field) => {
    const { service, port } = await startMoving();
    const clients = await openAll(port, 20);
    for (const { socket } of clients) socket.write(`GET /hold ${version}\r\nHost: a\r\n${field}\r\n`);
    await expect.poll(() => service.lines.filter(({ event }) => event === "request").length).toBe(20);
    await replace(service);
    process.kill(service.pid, "SIGUSR2");
    expect(await Promise.all(clients.map(({ ended }) => ended))).toEqual(Array(20).fill("end"));
    for (const client of clients) expect(client.text).toMatch(/\r\n\r\n0$/);
    expect(await departures(service)).toMatchObject({ moved: 0, destroyed: 0 });
  });
});

describe("in the new process", () => {
  test("`getConnections` counts adopted connections, and those that have ended no more", async () => {
    const { service, port } = await startMoving();
    const [first, ...others] = await openAll(port, 5);
    await upgrade(service);
    expect(await ask(others[0]!)).toBe("1");
    expect(await ask(first!, "/count")).toBe("1:5");
    for (const { socket } of others) socket.destroy();
    await expect.poll(() => ask(first!, "/count")).toBe("1:1");
  });

  test("`closeIdleConnections` closes adopted ones, and no other", async () => {
    const { service, port } = await startMoving();
    const [parked, used, busy, asking] = await openAll(port, 4);
    await upgrade(service);
    expect(await ask(used!)).toBe("1");
    busy!.request("/hold");
    const { pid } = await service.until("request", { url: "/hold" });
    expect(await ask(asking!, "/close-idle")).toBe("1");
    expect(await Promise.all([parked!.ended, used!.ended])).toEqual(["end", "end"]);
    process.kill(pid, "SIGUSR2");
    expect(await answer(busy!)).toBe("1");
  });

  test("`closeAllConnections` closes adopted ones", async () => {
    const { service, port } = await startMoving();
    const [parked, busy, asking] = await openAll(port, 3);
    await upgrade(service);
    busy!.request("/hold");
    await service.until("request", { url: "/hold" });
    asking!.request("/close-all");
    for (const client of [parked, busy, asking]) await client!.ended;
    const fresh = await Client.open(port);
    expect(await ask(fresh, "/count")).toBe("1:1");
  });

  test("`server.close()` closes adopted ones that are idle, and waits for the others", async () => {
    const { service, port } = await startMoving();
    const [parked, busy, asking] = await openAll(port, 3);
    await upgrade(service);
    busy!.request("/hold");
    const { pid } = await service.until("request", { url: "/hold" });
    asking!.request("/close");
    expect(await parked!.ended).toBe("end");
    asking!.socket.destroy();
    expect(service.lines.map(({ event }) => event)).not.toContain("closed");
    process.kill(pid, "SIGUSR2");
    await response(busy!);
    busy!.socket.destroy();
    await service.until("closed", { generation: 1 });
  });

  test.each([
    ["keepAliveTimeout", async (client: Client) => expect(await ask(client)).toBe("0")],
    ["headersTimeout", async () => {}],
  ])("`%s` closes one that is silent", async (name, begin) => {
    const { service, port } = await startMoving({ server: { [name]: 2_000 } });
    const client = await Client.open(port);
    await begin(client);
    await upgrade(service);
    expect(await client.ended).toBe("end");
    expect(client.text).toBe("");
    expect(await departures(service)).toMatchObject({ moved: 1 });
    expect(await ask(await Client.open(port), "/count")).toBe("1:1");
  });

  test.each([
    ["headersTimeout", "GET / HT"],
    ["requestTimeout", `${post("/echo", 4)}bo`],
  ])("`%s` ends a request that does not go on", async (_, half) => {
    const timeouts = { headersTimeout: 1_000, requestTimeout: 1_000, connectionsCheckingInterval: 100 };
    const { service, port } = await startMoving({ server: { keepAliveTimeout: 60_000, ...timeouts } });
    const client = await Client.open(port);
    expect(await ask(client)).toBe("0");
    await upgrade(service);
    client.socket.write(half);
    await client.until(/^HTTP\/1.1 408 /);
    expect(await client.ended).toBe("end");
  });

  test("`maxRequestsPerSocket` counts what was asked before", async () => {
    const { service, port } = await startMoving({ max: 3 });
    const client = await Client.open(port);
    expect([await ask(client), await ask(client)]).toEqual(["0", "0"]);
    await upgrade(service);
    client.request("/");
    const { head, body } = await response(client);
    expect(body).toBe("1");
    expect(head).toMatch(/^connection: close/im);
    expect(await client.ended).toBe("end");
  });
});

test("fifty connections go through twenty upgrades, and leave nothing behind", async () => {
  const { service, port } = await startMoving({ server: { keepAliveTimeout: 0, headersTimeout: 0 } });
  const clients = await openAll(port, 50);
  const used = clients.slice(0, 25);
  const counts: number[] = [];
  for (let generation = 1; generation <= 20; generation++) {
    const { pid } = await upgrade(service);
    await service.until("alone", { pid });
    counts.push(descriptorCount(pid));
    const answers = await Promise.all(used.map((client) => ask(client)));
    expect(answers).toEqual(used.map(() => String(generation)));
  }
  expect(new Set(counts).size).toBe(1);
  expect(await Promise.all(clients.map((client) => ask(client)))).toEqual(clients.map(() => "20"));
  expect(service.noise).toBe("");
});
