import { describe, expect, test } from "vitest";
import { selfSigned } from "../support/client.js";
import { brief, Service } from "../support/service.js";
import { frame, openRaw, WebSocketClient } from "../support/websocket.js";

interface Settings {
  first?: object;
  next?: object;
  [option: string]: unknown;
}

interface Started {
  service: Service;
  port: number;
}

async function startWith(name: string, { first, ...settings }: Settings = {}): Promise<Started> {
  const service = Service.start("websocket-counter.js", {
    settings: { ...brief, ...settings, first: { package: name, ...first } },
  });
  const { port } = await service.until("accepting");
  return { service, port: port as number };
}

const MOVED = { code: 1012, reason: "moved" };

describe.each(["ws", "ws-oldest"])("a WebSocket of %s", (name) => {
  const start = (settings?: Settings): Promise<Started> => startWith(name, settings);

  test.each([
    ["{ server }", { mode: "server" }, "/"],
    ["{ server, path }", { mode: "server", path: "/chat" }, "/chat?room=1"],
    ["{ noServer }", {}, "/"],
    ["asynchronous authentication", { auth: true, tickets: ["?ticket=1"] }, "/?ticket=1"],
  ])(`a WebSocket of ${name} moves with %s`, async (_, first, path) => {
    const { service, port } = await start({ first });
    const client = await WebSocketClient.open(`ws://127.0.0.1:${port}${path}`);
    expect(await client.ask("a")).toBe("0 1 a");
    await service.replace();
    expect(await service.until("closed", { generation: 0 })).toMatchObject(MOVED);
    expect(await client.ask("b")).toBe("1 2 b");
    await service.replace();
    expect(await client.ask("c")).toBe("2 3 c");
    expect(client.isClosed).toBe(false);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 1,
      stayed: {},
      destroyed: 0,
    });
  });

  test(`a WebSocket of ${name} has the same request in the successor`, async () => {
    const { service, port } = await start();
    const headers = {
      Cookie: ["a=1", "b=2"],
      "X-Twice": ["1", "2"],
      "User-Agent": "one",
      "X-Forwarded-For": "::1",
    };
    await WebSocketClient.open(`ws://127.0.0.1:${port}/?a=1`, {
      headers: headers as unknown as Record<string, string>,
      protocols: ["chat", "news"],
    });
    await service.replace();
    const [before, after] = service.lines.filter(({ event }) => event === "connection");
    const { handover, ...request } = after!;
    expect(handover).toEqual({ state: { received: 0, pushed: 0 } });
    expect(request).toEqual({ ...before, pid: after!.pid, generation: 1 });
    expect(before).toMatchObject({ url: "/?a=1", remoteAddress: "127.0.0.1" });
    expect(before!["headers"]).toMatchObject({ cookie: "a=1; b=2", "x-twice": "1, 2" });
    expect(before!["headersDistinct"]).toMatchObject({ "x-twice": ["1", "2"] });
  });

  test(`a WebSocket of ${name} moves to its own server of several`, async () => {
    const { service, port } = await start({ first: { routes: ["/a", "/b"] } });
    const clients = await Promise.all(
      ["/a", "/b"].map((path) => WebSocketClient.open(`ws://127.0.0.1:${port}${path}`)),
    );
    await service.replace();
    for (const client of clients) expect(await client.ask("x")).toBe("1 1 x");
    const routes = service.lines.filter(
      ({ event, generation }) => event === "connection" && generation === 1,
    );
    expect(routes.map(({ route, url }) => [route, url])).toEqual([
      ["/a", "/a"],
      ["/b", "/b"],
    ]);
  });

  test(`a WebSocket of ${name} loses, doubles and reorders no message in either direction`, async () => {
    const { service, port } = await start({ first: { push: 5 } });
    const clients = await Promise.all(
      Array.from({ length: 50 }, () => WebSocketClient.open(`ws://127.0.0.1:${port}`)),
    );
    const talkers = clients.map((client) => new Talker(client));
    for (let n = 0; n < 3; n++) await service.replace();
    await Promise.all(talkers.map((talker) => talker.finish()));
    expect(talkers.flatMap(({ wrong }) => wrong.slice(0, 3))).toEqual([]);
    expect(clients.filter(({ isClosed }) => isClosed)).toEqual([]);
    expect(talkers.every(({ echoes, pushes }) => echoes > 3 && pushes > 3)).toBe(true);
  });

  test(`a WebSocket of ${name} moves when a half received frame is complete`, async () => {
    const { service, port } = await start();
    const client = await openRaw(port);
    const bytes = frame("told");
    client.socket.write(bytes.subarray(0, 3));
    await service.upgrade();
    client.socket.write(bytes.subarray(3));
    expect(await service.until("message")).toMatchObject({ generation: 0 });
    await client.until(/0 1 told/);
    await service.until("exited", { generation: 0 });
    client.socket.write(bytes);
    await client.until(/1 2 told/);
  });

  test(`a WebSocket of ${name} moves though its client is always in the middle of a frame`, async () => {
    const { service, port } = await start();
    const client = await openRaw(port);
    const bytes = frame("told");
    const [head, tail] = [bytes.subarray(0, 3), bytes.subarray(3)];
    client.socket.write(head);
    let count = 0;
    const ask = async (): Promise<string> => {
      client.socket.write(Buffer.concat([tail, head]));
      const [answer] = /\d \d+ told/.exec(await client.until(/ told/))!;
      expect(answer).toBe(`${answer[0]} ${++count} told`);
      return answer[0]!;
    };
    await ask();
    process.kill(service.pid, "SIGHUP");
    while ((await ask()) === "0");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1, stayed: {} });
    await ask();
  });

  test(`a WebSocket of ${name} moves after the last fragment of a message`, async () => {
    const { service, port } = await start();
    const client = await openRaw(port);
    client.socket.write(frame("told ", { fin: false }));
    await service.upgrade();
    client.socket.write(frame("ping", { opcode: 9 }));
    expect(await client.until(/ping/)).toBe("\x8a\x04ping");
    client.socket.write(frame("twice", { opcode: 0 }));
    await client.until(/0 1 told twice/);
    await service.until("exited", { generation: 0 });
    client.socket.write(frame("again"));
    expect(await client.until(/1 2 again/)).toContain("1 2 again");
  });

  test(`a WebSocket of ${name} moves after its unsent messages`, async () => {
    const { service, port } = await start();
    const client = await WebSocketClient.open(`ws://127.0.0.1:${port}`);
    client.ws.pause();
    client.ws.send("large");
    client.ws.send("told");
    await service.until("message");
    await service.upgrade();
    client.ws.resume();
    for (let n = 1; n <= 64; n++) expect(await client.next()).toBe(String(n).padEnd(256 * 1024));
    expect(await client.next()).toBe("0 2 told");
    await service.until("exited", { generation: 0 });
    expect(await client.ask("b")).toBe("1 3 b");
  });

  test(`a WebSocket of ${name} moves with compression without context takeover`, async () => {
    const { service, port } = await start({ first: { perMessageDeflate: FORGETFUL } });
    const client = await WebSocketClient.open(`ws://127.0.0.1:${port}`, {
      perMessageDeflate: { threshold: 0 },
    });
    expect(await client.ask("a")).toBe("0 1 a");
    await service.replace();
    expect(await client.ask("b")).toBe("1 2 b");
    await service.replace();
    expect(await client.ask("c")).toBe("2 3 c");
  });

  test(`a WebSocket of ${name} is closed with 1012 if the successor rejects it after it has moved`, async () => {
    const { service, port } = await start({
      first: { auth: true, tickets: ["?ticket=1"] },
      next: { tickets: [] },
    });
    const client = await WebSocketClient.open(`ws://127.0.0.1:${port}/?ticket=1`);
    await service.replace();
    expect(await client.closed).toMatchObject({ code: 1012 });
    // The rejecting process has survived what the program wrote after that.
    await service.replace();
  });

  test(`a WebSocket of ${name} that had not moved works after a rollback, and moves by the next upgrade`, async () => {
    const { service, port } = await start({ probation: 30_000 });
    const client = await openRaw(port);
    const bytes = frame("told");
    client.socket.write(bytes.subarray(0, 3));
    process.kill(service.pid, "SIGHUP");
    const { pid } = await service.until("accepting", { generation: 1 });
    process.kill(pid, "SIGKILL");
    await service.until("rollback");
    client.socket.write(bytes.subarray(3));
    await client.until(/0 1 told/);
    const from = service.lines.length;
    process.kill(service.pid, "SIGHUP");
    await service.until("closed", MOVED, from);
    client.socket.write(bytes);
    expect(await client.until(/1 2 told/)).toContain("1 2 told");
  });

  test(`a WebSocket of ${name} that cannot move, or that the successor refuses, works until it is closed late`, async () => {
    const live = { perMessageDeflate: { threshold: 0 } };
    const results = await Promise.all([
      stay({ next: { routes: [] } }),
      stay({ next: { routes: ["/else"] } }),
      stay({ next: { version: 2 } }),
      stay({ first: { move: false } }),
      stay({ first: { version: 0 }, next: { move: false } }),
      stay({ next: { move: false } }),
      stay({ next: { protocol: "other" }, first: { protocol: "chat" } }, { protocols: ["chat", "other"] }),
      stay({ first: { perMessageDeflate: FORGETFUL }, next: live }, live),
      stay({ first: live }, live),
      stay({ ...selfSigned() }, { maxVersion: "TLSv1.2" }, "wss"),
    ]);
    const [refused, version] = [{ ERR_REFUSED: 1 }, { ERR_VERSION: 1 }];
    expect(results).toEqual([
      { ERR_NO_TAKER: 1 },
      refused,
      version,
      {},
      refused,
      version,
      refused,
      refused,
      {},
      { ERR_TLS_VERSION: 1 },
    ]);
  });

  /** Why a connection stayed, whose successor is different. */
  async function stay(
    settings: Settings,
    options: Parameters<typeof WebSocketClient.open>[1] = {},
    scheme = "ws",
  ): Promise<unknown> {
    const { service, port } = await start({ drainTimeout: 3_000, ...settings });
    const client = await WebSocketClient.open(`${scheme}://127.0.0.1:${port}`, {
      rejectUnauthorized: false,
      ...options,
    });
    expect(await client.ask("a")).toBe("0 1 a");
    await service.upgrade();
    expect(await client.ask("b")).toBe("0 2 b");
    expect(await client.closed).toEqual({ code: 1012, reason: "service restart" });
    const { moved, destroyed, stayed } = await service.until("exit", { generation: 0 });
    expect(service.noise).not.toContain("HANDOVER_WEBSOCKET");
    expect([moved, destroyed]).toEqual([0, 0]);
    return stayed;
  }

  test(`stop() closes the WebSockets of ${name}, but not all at once`, async () => {
    const { service, port } = await start({ drainTimeout: 3_000 });
    const open = (): Promise<WebSocketClient> => WebSocketClient.open(`ws://127.0.0.1:${port}`);
    const [first, last] = [await open(), await open()];
    process.kill(service.pid, "SIGTERM");
    expect(await first.closed).toEqual({ code: 1012, reason: "service restart" });
    expect(await last.ask("a")).toBe("0 1 a");
    expect(await last.closed).toEqual({ code: 1012, reason: "service restart" });
    expect(await service.until("exit")).toMatchObject({ destroyed: 0, moved: 0 });
  });
});

/** Compression without context takeover. */
const FORGETFUL = { serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: 0 };

/** Keeps a few numbered messages on their way, and checks what comes back. */
class Talker {
  readonly wrong: string[] = [];
  echoes = 0;
  pushes = 0;
  readonly #client: WebSocketClient;
  readonly #finished: Promise<void>;
  #sent = 0;
  #isFinishing = false;
  #tell!: () => void;

  constructor(client: WebSocketClient) {
    this.#client = client;
    this.#finished = new Promise((resolve) => (this.#tell = resolve));
    for (const text of client.messages) this.#hear(text);
    client.ws.on("message", (data: Buffer) => this.#hear(data.toString()));
    for (let n = 0; n < 3; n++) this.#send();
    void client.closed.then(({ code }) => {
      this.wrong.push(`closed with ${code}`);
      this.#tell();
    });
  }

  /** Sends no more, and waits for what is on its way. */
  async finish(): Promise<void> {
    this.#isFinishing = true;
    await this.#finished;
  }

  #send(): void {
    this.#client.ws.send(String(++this.#sent));
  }

  #hear(text: string): void {
    const words = text.split(" ");
    const expected =
      words[0] === "push" ? `push ${++this.pushes}` : `${words[0]} ${++this.echoes} ${this.echoes}`;
    if (text !== expected) this.wrong.push(`${text} instead of ${expected}`);
    if (words[0] !== "push" && !this.#isFinishing) this.#send();
    if (this.#isFinishing && this.echoes === this.#sent) this.#tell();
  }
}
