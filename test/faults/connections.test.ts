import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Client } from "../support/client.js";
import { brief, Service, temporaryDirectory } from "../support/service.js";
import { handover, jsonLines } from "../support/program.js";

interface Crowd {
  service: Service;
  port: number;
  clients: Client[];
}

async function start(fixture: string, settings: object, count: number): Promise<Crowd> {
  const service = Service.start(fixture, { settings: { ...brief, ...settings } });
  const port = (await service.until("accepting"))["port"] as number;
  return { service, port, clients: await Client.openAll(port, count) };
}

async function askAll(clients: Client[]): Promise<string[]> {
  return Promise.all(clients.map((client) => client.ask()));
}

async function say(client: Client, line: string): Promise<string> {
  client.socket.write(line);
  return client.until(new RegExp(`^. ${line}`));
}

/** Starts an upgrade; the successor's PID. */
async function begin(service: Service): Promise<number> {
  process.kill(service.pid, "SIGHUP");
  return (await service.until("upgrading")).pid;
}

/**
 * The successor has stopped itself after the commit, and the predecessor has offered it all that it offers at once: it
 * answers no client before, and the last of many clients is not among the offers.
 */
async function untilStopped(pid: number, clients: Client[]): Promise<void> {
  await expect.poll(() => readFileSync(`/proc/${pid}/stat`, "latin1")).toMatch(/\) T /);
  expect(await clients.at(-1)!.ask()).toBe("0");
}

const all = (count: number, text: string): string[] => Array.from({ length: count }, () => text);

describe("a successor that dies", () => {
  test("before it has adopted any leaves them all where they were", async () => {
    const { service, clients } = await start(
      "dies-after-accept.js",
      { event: "listening", probation: 20_000 },
      200,
    );
    expect(await askAll(clients.slice(0, 100))).toEqual(all(100, "0"));
    await begin(service);
    await service.until("rollback");
    expect(await askAll(clients)).toEqual(all(200, "0"));
    expect(await askAll(clients)).toEqual(all(200, "0"));
  });

  test("with offers on their way leaves them all where they were, with what was asked meanwhile", async () => {
    const { service, clients } = await start("stops-after-accept.js", { probation: 20_000 }, 200);
    const successor = await begin(service);
    await untilStopped(successor, clients);
    for (const client of clients) client.request("/");
    process.kill(successor, "SIGKILL");
    await service.until("rollback");
    expect(await Promise.all(clients.map((client) => client.answer()))).toEqual(all(200, "0"));
    expect(await askAll(clients)).toEqual(all(200, "0"));
  });

  test("while it adopts a batch leaves all of that where they were", async () => {
    const { service, clients } = await start(
      "adapter-by-generation.js",
      { thaw: ["", "dies"], probations: [20_000] },
      60,
    );
    await Promise.all(clients.map((client) => say(client, "before")));
    await begin(service);
    await service.until("rollback");
    const said = await Promise.all(clients.map((client) => say(client, "after")));
    expect(said).toEqual(all(60, "0 after"));
  });

  test("with what it has adopted loses that, and nothing else", async () => {
    const settings = { event: "connection", probation: 20_000 };
    const { service, port, clients } = await start("dies-after-accept.js", settings, 3);
    await service.upgrade();
    await service.until("accepting", { generation: 1 });
    for (const client of clients) client.request("/");
    expect(await Promise.all(clients.map(({ ended }) => ended))).not.toContain("");
    await service.until("rollback");
    expect(await (await Client.open(port)).ask()).toBe("0");
  });
});

describe("a connection that is refused stays, and is told to close:", () => {
  test("the new release has no such server", async () => {
    const { service, clients } = await start("renames-server.js", {}, 70);
    await service.upgrade();
    for (const client of clients) {
      client.request("/");
      const { head, body } = await client.response();
      expect([/^connection: close/im.test(head), body]).toEqual([true, "0"]);
    }
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 0,
      destroyed: 0,
      stayed: { ERR_NO_TAKER: 70 },
    });
  });

  test("the successor has no descriptors left", async () => {
    const { service, clients } = await start("few-descriptors-in-successor.js", { descriptors: 75 }, 100);
    expect(await askAll(clients)).toEqual(all(100, "0"));
    await service.upgrade();
    const answers = await Promise.all(
      clients.map(async (client) => {
        client.request("/");
        const { head, body } = await client.response();
        return `${body} ${/^connection: close/im.test(head) ? "close" : "keep"}`;
      }),
    );
    expect(answers.toSorted()).toEqual([...all(64, "0 close"), ...all(36, "1 keep")]);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 36,
      destroyed: 0,
      stayed: { ERR_DESCRIPTOR: 64 },
    });
    expect(service.lines.map(({ event }) => event)).not.toContain("rollback");
  });

  test.each([
    ["its adapter has another version there", { versions: [1, 2] }, "ERR_VERSION", 6],
    ["its adapter throws there", { thaw: ["", "refuses"] }, "ERR_FULL", 2],
    ["its adapter freezes what is no JSON", { freezes: "nonsense" }, "ERR_ADAPTER", 6],
  ])("%s", async (_, settings, code, count) => {
    const { service, clients } = await start("adapter-by-generation.js", settings, 6);
    await Promise.all(clients.map((client) => say(client, "before")));
    await service.upgrade();
    const said = await Promise.all(clients.map((client) => say(client, "after")));
    expect(said.filter((text) => text === "0 after")).toHaveLength(count);
    for (const { socket } of clients) socket.end();
    const stayed = { [code]: count };
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 6 - count,
      destroyed: 0,
      stayed,
    });
  });
});

test("a successor that is blocked for a second loses nothing", async () => {
  const { service, clients } = await start("blocks-after-accept.js", {}, 200);
  await begin(service);
  await service.until("draining");
  for (const client of clients) client.request("/");
  const answers = await Promise.all(clients.map((client) => client.answer()));
  // What was not on its way yet, the old process has answered.
  expect(answers.filter((text) => text !== "0" && text !== "1")).toEqual([]);
  expect(answers.filter((text) => text === "1").length).toBeGreaterThan(0);
  expect(await service.until("exit", { generation: 0 })).toMatchObject({
    moved: 200,
    destroyed: 0,
    stayed: {},
  });
});

test("a stop while connections are on their way answers what was asked, and leaves", async () => {
  const { service, clients } = await start("stops-after-accept.js", { probation: 20_000 }, 200);
  const successor = await begin(service);
  await untilStopped(successor, clients);
  for (const client of clients) client.request("/");
  process.kill(service.pid, "SIGTERM");
  // Answered by the one or the other, by whom does not matter any more.
  process.kill(successor, "SIGCONT");
  const answers = await Promise.all(clients.map((client) => client.response()));
  expect(answers.filter(({ body }) => body !== "0" && body !== "1")).toEqual([]);
  await service.ended();
  expect(service.lines.filter(({ event }) => event === "exit")).toMatchObject([
    { destroyed: 0 },
    { destroyed: 0 },
  ]);
});

describe("an older generation that still drains", () => {
  test("hands its connections to the newest process", async () => {
    const control = join(temporaryDirectory(), "control");
    const settings = { probation: 1, controlSocket: control };
    const { service, clients } = await start("answers-generation.js", settings, 2);
    const [held, other] = clients as [Client, Client];
    held.request("/hold");
    await service.until("request");
    for (const generation of [1, 2]) {
      await service.upgrade();
      await expect.poll(() => other.ask()).toBe(String(generation));
      if (generation === 1) await service.confirmed(generation);
    }
    const { pid } = await service.until("accepting", { generation: 2 });
    const [status] = jsonLines(await handover("status", pid, "--json"));
    expect(status).toMatchObject({ generation: 2, predecessors: [{ generation: 0, connections: 1 }] });
    process.kill(service.pid, "SIGUSR2");
    expect(await held.answer()).toBe("0");
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 2,
      destroyed: 0,
      stayed: {},
    });
    expect(await held.ask()).toBe("2");
  });

  test("gets back what the newest one has left unsettled, and hands it to the one before", async () => {
    const settings = { busy: [true], thaw: ["", "", "dies"], probations: [1, 20_000] };
    const { service, clients } = await start("adapter-by-generation.js", settings, 6);
    await Promise.all(clients.map((client) => say(client, "before")));
    await service.upgrade();
    await service.confirmed(1);
    await service.upgrade();
    process.kill(service.pid, "SIGUSR2");
    await service.until("rollback", { generation: 1 });
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 6,
      destroyed: 0,
      stayed: {},
    });
    const said = await Promise.all(clients.map((client) => say(client, "after")));
    expect(said).toEqual(all(6, "1 after"));
  });
});
