import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Client } from "../support/client.js";
import { FaultInjector } from "../support/fault-injector.js";
import { brief, descriptorCount, Service, temporaryDirectory } from "../support/service.js";
import { handover, jsonLines } from "../support/program.js";

interface Crowd {
  service: Service;
  port: number;
  clients: Client[];
}

async function start(fixture: string, settings: object, count: number, env = {}): Promise<Crowd> {
  const service = Service.start(fixture, { settings: { ...brief, ...settings }, env });
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

describe("the connections of a successor that dies", () => {
  test("a successor that dies before it has adopted a connection leaves all of them to the predecessor", async () => {
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

  test("a successor that dies with offers on their way leaves all connections to the predecessor, with the requests since", async () => {
    const { service, clients } = await start("stops-after-accept.js", { probation: 20_000 }, 200);
    const successor = await begin(service);
    await untilStopped(successor, clients);
    for (const client of clients) client.request("/");
    process.kill(successor, "SIGKILL");
    await service.until("rollback");
    expect(await Promise.all(clients.map((client) => client.answer()))).toEqual(all(200, "0"));
    expect(await askAll(clients)).toEqual(all(200, "0"));
  });

  test("a successor that dies while it adopts a batch of connections leaves the whole batch to the predecessor", async () => {
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

  test("a successor that dies loses the connections that it has adopted, and its predecessor accepts again", async () => {
    const settings = { event: "connection", probation: 20_000 };
    const { service, port, clients } = await start("dies-after-accept.js", settings, 3);
    await service.upgrade();
    await service.until("accepting", { generation: 1 });
    for (const client of clients) client.request("/");
    for (const how of await Promise.all(clients.map(({ ended }) => ended))) {
      expect(how).toMatch(/^(end|ECONNRESET)$/);
    }
    await service.until("rollback");
    expect(await (await Client.open(port)).ask()).toBe("0");
  });
});

describe("a connection that the successor refuses", () => {
  test("a connection whose server the successor does not have stays, and is told to close", async () => {
    const { service, clients } = await start("renames-server.js", {}, 70);
    await service.upgrade();
    // At once: those that are silent for two looks of the drain are closed.
    const answers = await Promise.all(
      clients.map(async (client) => {
        client.request("/");
        const { head, body } = await client.response();
        return [/^connection: close/im.test(head), body];
      }),
    );
    expect(answers).toEqual(Array.from({ length: 70 }, () => [true, "0"]));
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 0,
      destroyed: 0,
      stayed: { ERR_NO_TAKER: 70 },
    });
  });

  test("a connection stays if the successor has no descriptor left, and is told to close", async () => {
    const { service, clients } = await start("few-descriptors-in-successor.js", { descriptors: 75 }, 100);
    expect(await askAll(clients)).toEqual(all(100, "0"));
    await service.upgrade();
    await service.until("draining", { generation: 0 });
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
    ["has another version in the successor", { versions: [1, 2] }, "ERR_VERSION", 6],
    ["throws in the successor", { thaw: ["", "refuses"] }, "ERR_FULL", 2],
    ["freezes a state that is no JSON", { freezes: "nonsense" }, "ERR_ADAPTER", 6],
  ])("a connection stays if its adapter %s", async (_, settings, code, count) => {
    const { service, clients } = await start("adapter-by-generation.js", settings, 6);
    await Promise.all(clients.map((client) => say(client, "before")));
    await service.upgrade();
    await service.until("draining", { generation: 0 });
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

test("a successor that is blocked for a second loses no request", async () => {
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

test("a stop while connections move answers every request, and both processes exit", async () => {
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

describe("the connections of an older generation that still drains", () => {
  test("connections of an older generation that still drains move to the newest process", async () => {
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
    await service.until("exited", { generation: 1 });
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

  test("connections that the newest process left unsettled when it died move to its predecessor", async () => {
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

describe("a connection that the successor can make no socket of", () => {
  test("a connection that is being adopted stays, and the successor keeps nothing of it", async () => {
    const faults = new FaultInjector();
    const settings = { busy: [true], drainTimeout: 3_000 };
    const { service, clients } = await start("adapter-by-generation.js", settings, 2, faults.env);
    expect(await Promise.all(clients.map((client) => say(client, "a")))).toEqual(["0 a", "0 a"]);
    await service.upgrade();
    await service.until("accepting", { generation: 1 });
    faults.arm({ process: 1, function: "getsockopt", calls: 1, error: "ENOBUFS" });
    process.kill(service.pid, "SIGUSR2");
    const saidBy = async (): Promise<string[]> => {
      const said = await Promise.all(clients.map((client) => say(client, "b")));
      return said.toSorted();
    };
    await expect.poll(saidBy).toEqual(["0 b", "1 b"]);
    // The predecessor ends the connection that stayed; a descriptor in the successor would keep it open.
    await Promise.race(clients.map(({ ended }) => ended));
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 1,
      destroyed: 1,
      stayed: { ERR_DESCRIPTOR: 1 },
    });
  });

  test("a dormant connection is closed when it wakes, and the successor keeps nothing of it", async () => {
    const faults = new FaultInjector();
    const { service, port, clients } = await start("answers-generation.js", {}, 3, faults.env);
    expect(await askAll(clients)).toEqual(all(3, "0"));
    const { pid } = await service.replace();
    await service.until("alone", { pid });
    const before = descriptorCount(pid);
    faults.arm({ process: 1, function: "getsockopt", calls: 1, error: "ENOBUFS" });
    clients[0]!.request("/");
    expect(await clients[0]!.ended).toMatch(/^(end|ECONNRESET)$/);
    expect(descriptorCount(pid)).toBe(before - 1);
    expect(await clients[1]!.ask("/count")).toBe("1:2");
    expect(service.noise).toContain("cannot make a socket of a connection");
    expect(await (await Client.open(port)).ask("/count")).toBe("1:3");
  });
});
