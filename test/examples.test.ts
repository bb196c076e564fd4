import { readFileSync } from "node:fs";
import { Agent, get } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { Client } from "./support/client.js";
import { Service, temporaryDirectory } from "./support/service.js";
import { handover } from "./support/program.js";
import { WebSocketClient } from "./support/websocket.js";

const UPGRADES = 3;

test("examples/limiter.js counts every request of each client over upgrades", async () => {
  const { service, port, upgrade } = await start("limiter.js", { LIMIT: "1000000", WINDOW: "1e15" });
  const loads = ["127.0.0.2", "127.0.0.3"].map((address) => {
    const load: Load = { isOver: false, answers: [] };
    return { address, load, done: Promise.all([1, 2, 3].map(() => askInTurn(port, address, load))) };
  });
  const [{ address, load }] = loads as [(typeof loads)[0]];
  for (let generation = 0; generation < UPGRADES; generation++) {
    const finish = await askHalf(port, address, load);
    await upgrade(async () => expect((await finish()).body.generation).toBe(generation));
  }
  for (const one of loads) {
    one.load.isOver = true;
    await one.done;
    const { status, body } = await ask(port, one.address);
    expect([status, body]).toEqual([200, { count: one.load.answers.length + 1, generation: UPGRADES }]);
  }
  expect(service.transcript()).not.toMatch(/warning/i);
});

/** Of the PROXY protocol. */
const line = (address: string): string => `PROXY TCP4 ${address} 192.0.2.9 4711 80\r\n`;

test("examples/proxy-line.js knows each client's address over upgrades, split lines included", async () => {
  const { port, upgrade, service } = await start("proxy-line.js", {});
  const clients = await Client.openAll(port, 3);
  const [used, half, fresh] = clients as [Client, Client, Client];
  used.socket.write(line("192.0.2.1"));
  expect(await used.ask()).toBe("192.0.2.1 asks generation 0\n");
  half.socket.write("PROXY TCP4 192.");
  for (let generation = 1; generation <= UPGRADES; generation++) {
    const before = await Client.open(port);
    await upgrade(async () => {
      // The predecessor has the half of its line, and finishes it.
      if (generation > 1) return;
      half.socket.write(
        `${line("192.0.2.2").slice("PROXY TCP4 192.".length)}GET / HTTP/1.1\r\nHost: a\r\n\r\n`,
      );
      expect(await half.answer()).toBe("192.0.2.2 asks generation 0\n");
    });
    before.socket.write(line("192.0.2.3"));
    expect(await before.ask()).toBe(`192.0.2.3 asks generation ${generation}\n`);
    expect(await used.ask()).toBe(`192.0.2.1 asks generation ${generation}\n`);
    expect(await half.ask()).toBe(`192.0.2.2 asks generation ${generation}\n`);
  }
  fresh.socket.write(line("192.0.2.4"));
  expect(await fresh.ask()).toBe(`192.0.2.4 asks generation ${UPGRADES}\n`);
  expect(service.transcript()).not.toMatch(/warning/i);
});

test("examples/limiter.js refuses a client over its limit after an upgrade, too", async () => {
  const { port, upgrade } = await start("limiter.js", { LIMIT: "1", WINDOW: "1e15" });
  const address = "127.0.0.2";
  expect((await ask(port, address)).status).toBe(200);
  const load: Load = { isOver: false, answers: [] };
  const done = Promise.all([1, 2, 3].map(() => askInTurn(port, address, load)));
  const finish = await askHalf(port, address, load);
  await upgrade(async () => expect((await finish()).body.generation).toBe(0));
  load.isOver = true;
  await done;
  const answers = load.answers.map(({ status, body }) => `${status} by ${body.generation}`);
  expect([...new Set(answers)].toSorted()).toEqual(["429 by 0", "429 by 1"]);
});

test("examples/limiter.js has its counts back when the successor dies", async () => {
  const { service, pidFile, port } = await start("limiter.js", { PROBATION: "60000", WINDOW: "1e15" });
  const answers: Answer["body"][] = [];
  const askOnce = async (): Promise<void> => void answers.push((await ask(port, "127.0.0.2")).body);
  await askOnce();
  const upgrading = handover("upgrade", "--pid-file", pidFile);
  while (answers.at(-1)!.generation === 0) await askOnce();
  process.kill(Number(readFileSync(pidFile, "utf8")), "SIGKILL");
  expect((await upgrading).code).toBe(1);
  expect(Number(readFileSync(pidFile, "utf8"))).toBe(service.pid);
  await askOnce();
  const own = answers.filter(({ generation }) => generation === 0);
  expect(answers).toHaveLength(own.length + 1);
  expect(own.map(({ count }) => count)).toEqual(own.map((_, n) => n + 1));
});

test("examples/rooms.js loses no message over upgrades, and doubles none", async () => {
  const { service, port, upgrade } = await start("rooms.js", { HISTORY: "1000000" });
  const load = { isOver: false };
  const rooms = await Promise.all(
    ["a", "b"].map(async (room) => {
      const names = ["ann", "bob", "cy", "dee"];
      const talkers = await Promise.all(names.map((name) => Talker.open(port, room, name, load)));
      return { room, talkers };
    }),
  );
  for (let n = 0; n < UPGRADES; n++) await upgrade();
  load.isOver = true;
  for (const { room, talkers } of rooms) {
    const said = await Promise.all(talkers.map(async (talker) => talker.done));
    const total = said.reduce((sum, count) => sum + count, 0);
    const late = await Talker.open(port, room, "eve", load);
    const all = [...talkers, late];
    for (const talker of all) await talker.until(total);
    const [history] = all.map(({ heard }) => heard);
    expect(history!.map(({ number }) => number)).toEqual(history!.map((_, n) => n + 1));
    for (const { heard } of all) expect(heard).toEqual(history);
    talkers.forEach(({ name }, n) => {
      const own = history!.filter(({ text }) => text.startsWith(name));
      expect(own.map(({ text }) => text)).toEqual(own.map((_, k) => `${name} ${k + 1}`));
      expect(own).toHaveLength(said[n]!);
    });
  }
  expect(service.transcript()).not.toMatch(/warning/i);
});

test("examples/msgpackr.js moves state that JSON would lose", async () => {
  const { service, port, upgrade } = await start("msgpackr.js", {});
  const visit = async (agent: string): Promise<string> => {
    const answer = await fetch(`http://127.0.0.1:${port}/a`, { headers: { "user-agent": agent } });
    return answer.text();
  };
  const [since] = (await visit("one")).split(" ");
  await upgrade();
  await upgrade();
  expect(await visit("two")).toBe(`${since} one two\n`);
  expect(service.transcript()).not.toMatch(/warning/i);
});

interface Started {
  service: Service;
  pidFile: string;
  port: number;
  /** With the program, under whatever load there is; `late` is done before the old process leaves. */
  readonly upgrade: (late?: () => Promise<void>) => Promise<void>;
}

async function start(example: string, env: NodeJS.ProcessEnv): Promise<Started> {
  const program = fileURLToPath(new URL(`../examples/${example}`, import.meta.url));
  const pidFile = join(temporaryDirectory(), "app.pid");
  const command = [process.execPath, program];
  const service = Service.start("", {
    command,
    env: { PROBATION: "100", ...env, PORT: "0", PID_FILE: pidFile },
  });
  const [, port] = /port (\d+)/.exec(await service.untilNoise(/\d+ \w+ on port \d+\n/))!;
  let pid = service.pid;
  return {
    service,
    pidFile,
    port: Number(port),
    async upgrade(late) {
      const { code, stdout } = await handover("upgrade", "--pid-file", pidFile, "--json");
      expect([code, stdout]).toEqual([0, expect.any(String)]);
      await late?.();
      await service.untilNoise(new RegExp(`${pid} has left`));
      pid = Number([...service.noise.matchAll(/(\d+) \w+ on port/g)].at(-1)![1]);
    },
  };
}

interface Load {
  isOver: boolean;
  answers: Answer[];
}

interface Answer {
  status: number;
  body: { count: number; generation: number };
}

function ask(port: number, localAddress: string, agent?: Agent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const where = { host: "127.0.0.1", port, localAddress };
    const request = get({ ...where, agent: agent ?? false }, (incoming) => {
      let text = "";
      incoming.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      incoming.on("end", () => {
        resolve({ status: incoming.statusCode!, body: JSON.parse(text) as Answer["body"] });
      });
    });
    request.on("error", reject);
  });
}

/** One request after the other on a connection that is kept. */
async function askInTurn(port: number, localAddress: string, load: Load): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  while (!load.isOver) load.answers.push(await ask(port, localAddress, agent));
}

/**
 * A request and half of the next one, with which a connection stays where it is. What is returned sends the other half.
 */
async function askHalf(port: number, address: string, load: Load): Promise<() => Promise<Answer>> {
  const client = await Client.open(port, address);
  const next = async (): Promise<Answer> => {
    const { head, body } = await client.response();
    const answer = { status: Number(/ (\d+)/.exec(head)![1]), body: JSON.parse(body) as Answer["body"] };
    load.answers.push(answer);
    return answer;
  };
  client.socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT");
  await next();
  return async () => {
    client.socket.write("TP/1.1\r\nHost: a\r\n\r\n");
    return next();
  };
}

/** A member of a room, who says the next thing when the one before has come back. */
class Talker {
  readonly name: string;
  readonly heard: { number: number; text: string }[] = [];
  /** How often it has spoken, when the load is over. */
  readonly done: Promise<number>;
  readonly #client: WebSocketClient;

  static async open(port: number, room: string, name: string, load: { isOver: boolean }): Promise<Talker> {
    return new Talker(await WebSocketClient.open(`ws://127.0.0.1:${port}/${room}`), name, load);
  }

  private constructor(client: WebSocketClient, name: string, load: { isOver: boolean }) {
    this.#client = client;
    this.name = name;
    this.done = this.#talk(load);
  }

  /** Until it has heard the message of this number. */
  async until(number: number): Promise<void> {
    while ((this.heard.at(-1)?.number ?? 0) < number) await this.#hear();
  }

  async #talk(load: { isOver: boolean }): Promise<number> {
    let said = 0;
    while (!load.isOver) {
      const text = `${this.name} ${++said}`;
      this.#client.ws.send(text);
      do await this.#hear();
      while (this.heard.at(-1)!.text !== text);
    }
    return said;
  }

  async #hear(): Promise<void> {
    this.heard.push(JSON.parse(await this.#client.next()) as { number: number; text: string });
  }
}
