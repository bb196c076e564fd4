import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { Server } from "socket.io";
import { socketIo } from "../../dist/socketio/index.js";
import { io, type ManagerOptions, type Socket, type SocketOptions } from "socket.io-client";
import { describe, expect, onTestFinished, test } from "vitest";
import { brief, Service, type Line } from "../support/service.js";
import { WebSocketClient } from "../support/websocket.js";

const WEBSOCKET = { transports: ["websocket"] };

/** A client of socket.io that remembers what happened to it. */
class IoClient {
  readonly socket: Socket;
  /** The names of its own events, and the reasons of `disconnect`. */
  readonly told: string[] = [];
  readonly said: string[] = [];

  static async connect(
    port: number,
    options: Partial<ManagerOptions & SocketOptions> = {},
    namespace = "/",
  ): Promise<IoClient> {
    const client = new IoClient(io(`http://127.0.0.1:${port}${namespace}`, { forceNew: true, ...options }));
    await client.event("connect");
    const { engine } = client.socket.io;
    const isPolling = options.transports?.join() === "polling";
    if (!isPolling && engine.transport.name !== "websocket") {
      await new Promise<void>((resolve) => engine.once("upgrade", () => resolve()));
    }
    return client;
  }

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("connect", () => this.told.push(socket.recovered ? "recovered" : "connect"));
    socket.on("disconnect", (reason) => this.told.push(reason));
    socket.on("connect_error", () => this.told.push("connect_error"));
    socket.on("said", ({ text, generation }: { text: string; generation: number }) =>
      this.said.push(`${generation} ${text}`),
    );
    onTestFinished(() => void socket.disconnect());
  }

  event(name: "connect" | "disconnect" | "said" | "question"): Promise<void> {
    return new Promise((resolve) => this.socket.once(name as "connect", () => resolve()));
  }

  ask(...words: [string, ...unknown[]]): Promise<unknown> {
    return this.socket.timeout(60_000).emitWithAck(...words);
  }

  /** Asks until the generation answers. */
  async reach(generation: number): Promise<Answer> {
    for (;;) {
      const answer = (await this.ask("add")) as Answer;
      if (answer.generation === generation) return answer;
    }
  }
}

interface Answer {
  generation: number;
  count: number;
  since: boolean;
}

async function start(settings: object = {}): Promise<{ service: Service; port: number }> {
  const service = Service.start("moves-socket-io.js", { settings: { ...brief, ...settings } });
  const { port } = await service.until("accepting");
  return { service, port: port as number };
}

function linesOf(service: Service, event: string, generation: number): Line[] {
  return service.lines.filter((line) => line.event === event && line.generation === generation);
}

describe("a client of socket.io on polling", () => {
  const POLLING = { transports: ["polling"], reconnectionDelay: 10 };

  test("connects again, with its id, rooms, data and what it has missed, with connectionStateRecovery", async () => {
    const { service, port } = await start({ first: { io: { connectionStateRecovery: {} } } });
    const client = await IoClient.connect(port, POLLING);
    const sender = await IoClient.connect(port, WEBSOCKET);
    const { id } = client.socket;
    await client.ask("join", "room");
    await client.ask("add");
    const heard = client.event("said");
    sender.socket.emit("say", "room", "before");
    await heard;
    const again = client.event("connect");
    await service.upgrade();
    await again;
    await sender.reach(1);
    sender.socket.emit("say", "room", "after");
    expect(await client.reach(1)).toMatchObject({ count: 2 });
    await expect.poll(() => client.said).toEqual(["0 before", "1 after"]);
    expect(client.told).toEqual(["connect", "transport close", "recovered"]);
    expect(client.socket.id).toBe(id);
    expect(linesOf(service, "disconnect", 0)).toContainEqual(
      expect.objectContaining({ id, reason: "forced close" }),
    );
  });

  test("comes back to the old process after a rollback, with what that knew of it", async () => {
    const { service, port } = await start({
      probation: 30_000,
      first: { io: { connectionStateRecovery: {} } },
    });
    const client = await IoClient.connect(port, POLLING);
    const { id } = client.socket;
    await client.ask("add");
    await client.ask("join", "room");
    const heard = client.event("said");
    client.socket.emit("say", "room", "before");
    await heard;
    const again = client.event("connect");
    process.kill(service.pid, "SIGHUP");
    const { pid } = await service.until("accepting", { generation: 1 });
    await again;
    await client.reach(1);
    const back = client.event("connect");
    process.kill(pid, "SIGKILL");
    await service.until("rollback");
    await back;
    expect(await client.reach(0)).toMatchObject({ count: 2 });
    expect(client.socket.id).toBe(id);
    expect(client.told.at(-1)).toBe("recovered");
    const next = client.event("connect");
    process.kill(service.pid, "SIGHUP");
    await next;
    expect(await client.reach(1)).toMatchObject({ count: 3 });
    expect(client.socket.id).toBe(id);
  });

  test("connects again, with a new session, without it", async () => {
    const { service, port } = await start();
    const client = await IoClient.connect(port, POLLING);
    const again = client.event("connect");
    await service.upgrade();
    await again;
    expect(await client.reach(1)).toMatchObject({ count: 1 });
    expect(client.told).toEqual(["connect", "transport close", "connect"]);
    await service.until("exited", { generation: 0 });
  });
});

test("a client of socket.io that was away during the upgrade recovers what it has missed", async () => {
  const { service, port } = await start({ first: { io: { connectionStateRecovery: {} } } });
  const client = await IoClient.connect(port, { ...WEBSOCKET, reconnection: false });
  const sender = await IoClient.connect(port, WEBSOCKET);
  const { id } = client.socket;
  const heard = client.event("said");
  sender.socket.emit("say", id, "before");
  await heard;
  client.socket.io.engine.close();
  await service.until("disconnect", { id });
  sender.socket.emit("say", id, "while it was away");
  await sender.reach(0);
  await service.replace();
  client.socket.connect();
  await client.reach(1);
  expect(client.said).toEqual(["0 before", "0 while it was away"]);
  expect([client.told, client.socket.id]).toEqual([["connect", "forced close", "recovered"], id]);
});

describe("a client of socket.io", () => {
  test.each([
    ["by WebSocket alone", WEBSOCKET, {}],
    ["that began by polling", {}, {}],
    ["with connectionStateRecovery", {}, { connectionStateRecovery: {} }],
  ])("%s keeps its id, rooms, data and connection over three upgrades", async (_, options, ioOptions) => {
    const { service, port } = await start({ first: { io: ioOptions } });
    const client = await IoClient.connect(port, { ...options, query: { a: "1" }, auth: { token: "t" } });
    const other = await IoClient.connect(port, WEBSOCKET);
    const { id } = client.socket;
    const { id: engineId } = client.socket.io.engine as unknown as { id: string };
    await client.ask("join", "room");
    const [connection] = linesOf(service, "connection", 0);
    let { count } = await client.reach(0);
    for (let generation = 1; generation <= 3; generation++) {
      await service.replace();
      expect(await client.reach(generation)).toEqual({ generation, count: ++count, since: true });
      await other.reach(generation);
      // Both clients get a message to a room, and to the id.
      const heard = client.event("said");
      other.socket.emit("say", "room", "to the room");
      await heard;
      const again = client.event("said");
      other.socket.emit("say", id, "to the id");
      await again;
      expect(client.said.splice(0)).toEqual([`${generation} to the room`, `${generation} to the id`]);
      expect(await client.ask("count")).toBe(2);
      const mine = linesOf(service, "connection", generation).find((line) => line["id"] === id)!;
      expect(mine).toMatchObject({ recovered: true, session: "of a middleware of engine.io" });
      expect(mine["rooms"]).toEqual([id, "room"]);
      expect(mine["handshake"]).toEqual(connection!["handshake"]);
      expect(linesOf(service, "middleware", generation)).toEqual([]);
      const left = linesOf(service, "disconnect", generation - 1);
      expect(left.map(({ reason }) => reason)).toEqual(["moved", "moved"]);
    }
    expect([client.told, client.socket.id]).toEqual([["connect"], id]);
    expect((client.socket.io.engine as unknown as { id: string }).id).toBe(engineId);
    expect(service.noise).toBe("");
  });

  test("stays connected in each of its namespaces", async () => {
    const { service, port } = await start({ first: { names: ["/", "/admin"] } });
    const client = await IoClient.connect(port, WEBSOCKET);
    const admin = new IoClient(client.socket.io.socket("/admin"));
    if (!admin.socket.connected) await admin.event("connect");
    await service.replace();
    expect(await client.reach(1)).toMatchObject({ count: 1 });
    expect(await admin.reach(1)).toMatchObject({ count: 1 });
    expect([client.told, admin.told]).toEqual([["connect"], ["connect"]]);
    const joined = linesOf(service, "connection", 1).map(({ namespace }) => namespace);
    expect(new Set(joined)).toEqual(new Set(["/", "/admin"]));
  });

  test("stays connected in a namespace that is made when it is asked for", async () => {
    const { service, port } = await start({ first: { dynamic: true } });
    const client = await IoClient.connect(port, WEBSOCKET, "/dynamic-1");
    await service.replace();
    expect(await client.reach(1)).toMatchObject({ count: 1 });
    expect(client.told).toEqual(["connect"]);
  });

  test("whose event is being answered moves when it has its answer", async () => {
    const { service, port } = await start();
    const client = await IoClient.connect(port, WEBSOCKET);
    const answer = client.ask("slow");
    await service.until("slow");
    await service.replace();
    expect(await answer).toBe(0);
    await client.reach(1);
    expect(client.told).toEqual(["connect"]);
  });

  test("whose event a middleware holds moves when the program has heard it", async () => {
    const { service, port } = await start();
    const client = await IoClient.connect(port, WEBSOCKET);
    const other = await IoClient.connect(port, WEBSOCKET);
    client.socket.emit("held");
    await service.until("holding");
    await service.upgrade();
    await other.reach(1);
    client.socket.emit("release");
    expect(await service.until("heard")).toMatchObject({ generation: 0 });
    await client.reach(1);
    expect(client.told).toEqual(["connect"]);
  });

  test("that asks for a namespace moves when the program has decided", async () => {
    const { service, port } = await start({ first: { decides: true } });
    const client = await IoClient.connect(port, WEBSOCKET);
    const [yes, no] = ["/yes", "/no"].map((name) => new IoClient(client.socket.io.socket(name)));
    await expect.poll(() => linesOf(service, "deciding", 0)).toHaveLength(2);
    await service.replace();
    await client.reach(1);
    await yes!.reach(1);
    expect([client.told, yes!.told, no!.told]).toEqual([["connect"], ["connect"], ["connect_error"]]);
  });

  test("that was asked something moves when it has answered", async () => {
    const { service, port } = await start();
    const client = await IoClient.connect(port, WEBSOCKET);
    let answer: ((text: string) => void) | undefined;
    client.socket.on("question", (callback: (text: string) => void) => (answer = callback));
    const asked = client.event("question");
    client.socket.emit("ask me");
    await asked;
    await service.upgrade();
    expect(await client.ask("add")).toMatchObject({ generation: 0 });
    answer!("42");
    expect(await service.until("answered")).toMatchObject({ generation: 0, answer: "42" });
    await client.reach(1);
    expect(client.told).toEqual(["connect"]);
  });

  test("does not move between the parts of a binary event", async () => {
    const { service, port } = await start();
    const client = await WebSocketClient.open(`ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`);
    client.ws.send("40");
    while (!(await client.next()).startsWith("40"));
    client.ws.send('451-7["bytes",{"_placeholder":true,"num":0}]');
    await service.upgrade();
    client.ws.send(Buffer.from("abc"));
    const [head, bytes] = [await client.next(), await client.next()];
    expect([head, bytes]).toEqual(['461-7[{"_placeholder":true,"num":0},0]', "abcabc"]);
    await service.until("disconnect", { generation: 0, reason: "moved" });
  });

  test("does not notice a successor that fails", async () => {
    const { service, port } = await start({ first: { names: ["/"] }, next: { io: { path: 1 } } });
    const client = await IoClient.connect(port);
    await service.upgrade("failed");
    expect(await client.reach(0)).toMatchObject({ count: 1 });
    expect(client.told).toEqual(["connect"]);
  });

  test("stays if the successor does not have its namespace, and is told to reconnect", async () => {
    const { service, port } = await start({
      drainTimeout: 3_000,
      first: { names: ["/admin"] },
      next: { names: ["/"] },
    });
    const client = await IoClient.connect(port, { ...WEBSOCKET, reconnection: false }, "/admin");
    await service.upgrade();
    await client.event("disconnect");
    expect(client.told).toEqual(["connect", "transport close"]);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      destroyed: 0,
      stayed: { ERR_REFUSED: 1 },
    });
  });
});

test("a process that stops ends its clients, and says nothing of state that does not move", async () => {
  const { service, port } = await start({
    first: { io: { connectionStateRecovery: {} } },
    drainTimeout: 2_000,
  });
  const client = await IoClient.connect(port, { transports: ["polling"], reconnection: false });
  const gone = client.event("disconnect");
  await service.stop();
  await gone;
  expect(service.noise).toBe("");
});

test.each([
  ["no server of socket.io", () => createServer(), "it must be a Server of socket.io 4"],
  ["not attached", () => new Server(), "attach it to an HTTP server before"],
  [
    "of polling alone",
    () => new Server(createServer(), { transports: ["polling"] }),
    "the transport websocket",
  ],
  [
    "of another version",
    () => Object.assign(new Server(createServer()), { encoder: undefined }),
    "this version of socket.io is not supported",
  ],
])("socketIo() refuses a server that is %s", (_, make, why) => {
  expect(() => socketIo({} as never, make() as Server)).toThrow(
    expect.objectContaining({ code: "ERR_OPTION", message: expect.stringContaining(why) as string }),
  );
});

test("examples/socket.io.js keeps its clients connected over upgrades", async () => {
  const program = fileURLToPath(new URL("../../examples/socket.io.js", import.meta.url));
  const service = Service.start("", { command: [process.execPath, program], env: { PORT: "0" } });
  const isUp = /(\d+) listens on port (\d+)\n/g;
  await service.untilNoise(isUp);
  const client = await IoClient.connect(Number(/port (\d+)/.exec(service.noise)![1]));
  const { id } = client.socket;
  let pid = service.pid;
  let expected = (await client.reach(0)).count;
  for (let generation = 1; generation <= 2; generation++) {
    const left = service.untilNoise(new RegExp(`${pid} has left`));
    process.kill(pid, "SIGHUP");
    await left;
    expect(await client.reach(generation)).toMatchObject({ count: ++expected });
    pid = Number([...service.noise.matchAll(isUp)].at(-1)![1]);
  }
  expect([client.told, client.socket.id]).toEqual([["connect"], id]);
});
