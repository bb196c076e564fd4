import { describe, expect, test } from "vitest";
import { Service } from "../support/service.js";
import { brief, upgrade } from "../support/steps.js";
import { frame, openRaw, WebSocketClient } from "../support/websocket.js";

interface Settings {
  first?: object;
  next?: object;
  [option: string]: unknown;
}

const MOVED = { code: 1012, reason: "handed over" };

describe.each(["ws", "ws-oldest"])("a WebSocket of %s", (name) => {
  async function start({ first, ...settings }: Settings = {}): Promise<{ service: Service; port: number }> {
    const service = Service.start("websocket.js", {
      settings: { ...brief, ...settings, first: { package: name, ...first } },
    });
    const { port } = await service.until("accepting");
    return { service, port: port as number };
  }

  test.each([
    ["{ server }", { mode: "server" }, "/"],
    ["{ server, path }", { mode: "server", path: "/chat" }, "/chat?room=1"],
    ["{ noServer }", {}, "/"],
    ["asynchronous authentication", { auth: true, tickets: ["?ticket=1"] }, "/?ticket=1"],
  ])("moves with %s", async (_, first, path) => {
    const { service, port } = await start({ first });
    const client = await WebSocketClient.open(`ws://127.0.0.1:${port}${path}`);
    expect(await client.ask("a")).toBe("0 1 a");
    await upgrade(service);
    expect(await service.until("closed", { generation: 0 })).toMatchObject(MOVED);
    expect(await client.ask("b")).toBe("1 2 b");
    await upgrade(service);
    expect(await client.ask("c")).toBe("2 3 c");
    expect(client.isClosed).toBe(false);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      handedOver: 1,
      stayed: {},
      destroyed: 0,
    });
  });

  test("has the same request in the new process", async () => {
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
    await upgrade(service);
    const [before, after] = service.lines.filter(({ event }) => event === "connection");
    const { handover, ...request } = after!;
    expect(handover).toEqual({ state: { received: 0, pushed: 0 } });
    expect(request).toEqual({ ...before, pid: after!.pid, generation: 1 });
    expect(before).toMatchObject({ url: "/?a=1", remoteAddress: "127.0.0.1" });
    expect(before!["headers"]).toMatchObject({ cookie: "a=1; b=2", "x-twice": "1, 2" });
    expect(before!["headersDistinct"]).toMatchObject({ "x-twice": ["1", "2"] });
  });

  test("moves to its own server, where there are several", async () => {
    const { service, port } = await start({ first: { routes: ["/a", "/b"] } });
    const clients = await Promise.all(
      ["/a", "/b"].map((path) => WebSocketClient.open(`ws://127.0.0.1:${port}${path}`)),
    );
    await upgrade(service);
    for (const client of clients) expect(await client.ask("x")).toBe("1 1 x");
    const routes = service.lines.filter(
      ({ event, generation }) => event === "connection" && generation === 1,
    );
    expect(routes.map(({ route, url }) => [route, url])).toEqual([
      ["/a", "/a"],
      ["/b", "/b"],
    ]);
  });

  test("loses, doubles and reorders nothing in either direction", async () => {
    const { service, port } = await start({ first: { push: 5 } });
    const clients = await Promise.all(
      Array.from({ length: 50 }, () => WebSocketClient.open(`ws://127.0.0.1:${port}`)),
    );
    const talkers = clients.map((client) => new Talker(client));
    for (let n = 0; n < 3; n++) await upgrade(service);
    await Promise.all(talkers.map((talker) => talker.finish()));
    expect(talkers.flatMap(({ wrong }) => wrong.slice(0, 3))).toEqual([]);
    expect(clients.filter(({ isClosed }) => isClosed)).toEqual([]);
    expect(talkers.every(({ echoes, pushes }) => echoes > 3 && pushes > 3)).toBe(true);
  });

  test("moves when a half received frame is complete", async () => {
    const { service, port } = await start();
    const client = await openRaw(port);
    const bytes = frame("told");
    client.socket.write(bytes.subarray(0, 3));
    process.kill(service.pid, "SIGHUP");
    await service.until("accepting", { generation: 1 });
    client.socket.write(bytes.subarray(3));
    expect(await service.until("message")).toMatchObject({ generation: 0 });
    await client.until(/0 1 told/);
    await service.until("exited", { generation: 0 });
    client.socket.write(bytes);
    await client.until(/1 2 told/);
  });

  test("moves after the last fragment of a message", async () => {
    const { service, port } = await start();
    const client = await openRaw(port);
    client.socket.write(frame("told ", { fin: false }));
    process.kill(service.pid, "SIGHUP");
    await service.until("accepting", { generation: 1 });
    client.socket.write(frame("ping", { opcode: 9 }));
    await client.until(/\x8a\x04ping/);
    client.socket.write(frame("twice", { opcode: 0 }));
    await client.until(/0 1 told twice/);
    await service.until("exited", { generation: 0 });
    client.socket.write(frame("again"));
    await client.until(/1 2 again/);
  });
});

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
