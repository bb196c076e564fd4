import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { Client } from "../support/client.js";
import { brief, Service } from "../support/service.js";

async function start(settings: object = {}): Promise<{ service: Service; port: number }> {
  const service = Service.start("line-counter.js", { settings: { ...brief, ...settings } });
  const { port } = await service.until("accepting");
  return { service, port: port as number };
}

test("examples/chat.js loses no line of a chat over upgrades", async () => {
  const program = fileURLToPath(new URL("../../examples/chat.js", import.meta.url));
  const service = Service.start("", { command: [process.execPath, program], env: { PORT: "0" } });
  const isUp = /(\d+) chats on port (\d+)\n/g;
  await service.untilNoise(isUp);
  const port = Number(/port (\d+)/.exec(service.noise)![1]);
  const people = await Promise.all(["Ana", "Bo", "Čeda"].map((nick) => Person.enter(port, nick)));
  await Promise.all(people.map((person) => person.hears(10)));
  let pid = service.pid;
  for (let n = 0; n < 2; n++) {
    process.kill(pid, "SIGHUP");
    await service.untilNoise(new RegExp(`${pid} has left`));
    await Promise.all(people.map((person) => person.hears(20)));
    pid = Number([...service.noise.matchAll(isUp)].at(-1)![1]);
  }
  expect(people.flatMap(({ wrong }) => wrong)).toEqual([]);
  expect(pid).not.toBe(service.pid);
});

/** Says numbered lines, in two pieces each, and listens to everybody's. */
class Person {
  readonly wrong: string[] = [];
  readonly #client: Client;
  readonly #nick: string;
  readonly #heard = new Map<string, number>();
  #said = 0;

  static async enter(port: number, nick: string): Promise<Person> {
    const client = await Client.open(port);
    await client.until(/\?\n/);
    client.socket.write(`${nick}\n`);
    return new Person(client, nick);
  }

  private constructor(client: Client, nick: string) {
    this.#client = client;
    this.#nick = Buffer.from(nick).toString("latin1");
    this.#say();
  }

  /** So many lines of its own. */
  async hears(count: number): Promise<void> {
    const goal = this.#said + count;
    while ((this.#heard.get(this.#nick) ?? 0) < goal) {
      const [nick, number] = (await this.#client.until(/\n/)).trim().split(": ");
      // One may have come later than another has begun.
      const expected = (this.#heard.get(nick!) ?? Number(number) - 1) + 1;
      if (Number(number) !== expected) this.wrong.push(`${nick} ${number} instead of ${expected}`);
      this.#heard.set(nick!, expected);
      if (nick === this.#nick) this.#say();
    }
  }

  #say(): void {
    this.#client.socket.write(`${++this.#said}`);
    setImmediate(() => this.#client.socket.write("\n"));
  }
}

describe("a connection with an adapter", () => {
  test("a connection with an adapter moves, and text written after freeze() is not sent", async () => {
    const { service, port } = await start();
    const client = await Client.open(port);
    client.socket.write("a\n");
    await client.until(/^0 1\n/);
    await service.replace();
    await service.replace();
    client.socket.write("b\n");
    expect(await client.until(/\n/)).toBe("2 2\n");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1, stayed: {} });
  });

  test.each([
    ["idle() throws", { first: { throws: ["idle"] } }, "ERR_IDLE"],
    ["freeze() throws", { first: { throws: ["freeze"] } }, "ERR_FREEZE"],
    ["thaw() throws", { next: { throws: ["thaw"] } }, "ERR_THAW"],
    ["state is no JSON", { first: { unlike: true } }, "ERR_ADAPTER"],
    ["state is too large", { first: { size: 17 * 1024 * 1024 } }, "ERR_TOO_LARGE"],
    ["successor has another version", { next: { version: 2 } }, "ERR_VERSION"],
    ["successor has no adapter", { next: { none: true } }, "ERR_NO_TAKER"],
  ])("a connection with an adapter stays if its %s", async (_, settings, code) => {
    const { service, port } = await start(settings);
    const client = await Client.open(port);
    client.socket.write("a\n");
    await client.until(/^0 1\n/);
    await service.upgrade();
    client.socket.write("b\n");
    await client.until(/0 2\n/);
    client.socket.end();
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 0,
      destroyed: 0,
      stayed: { [code]: 1 },
    });
  });

  test("a connection moves with the bytes that its server has received and not read", async () => {
    const { service, port } = await start({
      first: { paused: true, silent: true },
      next: { paused: false },
    });
    const client = await Client.open(port);
    client.socket.write("a\nb\nc\n");
    await service.until("unread");
    await service.replace();
    expect(await client.until(/3\n/)).toBe("1 1\n1 2\n1 3\n");
  });

  test("a connection with idleTimeout is thawed when its client sends", async () => {
    const { service, port } = await start({ first: { idleTimeout: 60_000 } });
    const client = await Client.open(port);
    client.socket.write("a\n");
    await client.until(/^0 1\n/);
    await service.replace();
    expect(
      service.lines.filter(({ event, generation }) => event === "connection" && generation === 1),
    ).toEqual([]);
    await service.replace();
    client.socket.write("b\n");
    expect(await client.until(/\n/)).toBe("2 2\n");
  });

  test("a connection with idleTimeout is closed when that time is over", async () => {
    const { service, port } = await start({ first: { idleTimeout: 1 } });
    const client = await Client.open(port);
    await service.until("connection");
    await service.replace();
    expect(await client.ended).toBe("end");
  });

  test("a dormant connection is closed if its thaw() throws", async () => {
    const { service, port } = await start({ first: { idleTimeout: 60_000 }, next: { throws: ["thaw"] } });
    const client = await Client.open(port);
    await service.until("connection");
    await service.replace();
    client.socket.write("a\n");
    expect(await client.ended).toBe("ECONNRESET");
    const warning = /HANDOVER_ADAPTER.*"lines" failed in thaw, the connection is closed: thrown by thaw/;
    expect(await service.untilNoise(warning)).toBeTruthy();
    expect(service.lines.filter(({ event }) => event === "uncaught")).toEqual([]);
  });
});
