import { expect, test } from "vitest";
import { Client } from "../support/client.js";
import { Service } from "../support/service.js";

interface Failing {
  service: Service;
  port: number;
  /** Its member fails. */
  bad: Client;
  good: Client[];
}

/** A service whose adapter fails in one member for one of three connections. */
async function start(member: string, how: string, settings: object = {}): Promise<Failing> {
  const service = Service.start("failing-adapter.js", {
    settings: { member, how, probation: 50, drainTimeout: 20_000, ...settings },
  });
  const port = (await service.until("accepting"))["port"] as number;
  const [bad, ...good] = await Client.openAll(port, 3);
  expect(await say(bad!, "bad\n")).toBe("0 1\n");
  for (const client of good) expect(await say(client, "good\n")).toBe("0 1\n");
  return { service, port, bad: bad!, good };
}

async function say(client: Client, text: string): Promise<string> {
  client.socket.write(text);
  return client.until(/\n/);
}

/** Says lines until the successor answers one: after the commit a predecessor may take some more, and none is lost. */
async function sayUntilMoved(client: Client): Promise<void> {
  let lines = 1;
  await expect.poll(async () => (await say(client, "more\n")) === `1 ${++lines}\n`).toBe(true);
}

/** Leaves a connection in the middle of a line, of which its process knows. */
async function makeBusy(service: Service, ...clients: Client[]): Promise<void> {
  for (const client of clients) {
    const from = service.lines.length;
    client.socket.write("half a ");
    await service.until("busy", {}, from);
  }
}

/** One warning names the adapter and the member, and no exception has reached the program. */
async function expectOneWarning(service: Service, member: string, reason: string | RegExp): Promise<void> {
  await service.untilNoise(/HANDOVER_ADAPTER/);
  const warnings = [...service.noise.matchAll(/\[HANDOVER_ADAPTER\] Warning: (.*)/g)].map(([, text]) => text);
  const what = `^the connection adapter "lines" failed in ${member}, [^:]+: `;
  const why = typeof reason === "string" ? reason : reason.source;
  expect(warnings).toEqual([expect.stringMatching(`${what}${why}`)]);
  expect(service.lines.filter(({ event }) => event === "uncaught")).toEqual([]);
}

test.each([
  ["idle", "throws", "ERR_BAD", "failure of idle"],
  ["idle", "throws null", "ERR_ADAPTER", "null"],
  ["idle", "rejects", "ERR_ADAPTER", "it must return true or false, not Promise"],
  ["idle", "resolves", "ERR_ADAPTER", "it must return true or false, not Promise"],
  ["idle", "returns a string", "ERR_ADAPTER", "it must return true or false, not 'nonsense'"],
  ["freeze", "throws", "ERR_BAD", "failure of freeze"],
  ["freeze", "throws null", "ERR_ADAPTER", "null"],
  ["freeze", "rejects", "ERR_ADAPTER", "it must return the state itself, not Promise"],
  ["freeze", "resolves", "ERR_ADAPTER", "it must return the state itself, not Promise"],
])("a connection stays if its %s %s, and others move", async (member, how, code, why) => {
  const { service, bad, good } = await start(member, how);
  await service.upgrade();
  for (const client of good) await sayUntilMoved(client);
  expect(await say(bad, "more\n")).toBe("0 2\n");
  bad.socket.end();
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 2, stayed: { [code]: 1 } });
  await expectOneWarning(service, member, why);
});

test("a connection that its freeze destroys ends, and others move", async () => {
  const { service, bad, good } = await start("freeze", "destroys the socket");
  await service.upgrade();
  expect(await bad.ended).not.toBe("");
  for (const client of good) await sayUntilMoved(client);
  expect(await service.until("exit", { generation: 0 })).toMatchObject({
    moved: 2,
    stayed: { ERR_DESCRIPTOR: 1 },
  });
  await expectOneWarning(service, "freeze", "cannot find the descriptor of a connection: it is not open");
});

test.each([
  ["moved", "throws", "failure of moved"],
  ["moved", "rejects", "failure of moved"],
  ["write", "throws", /.*\bReceived type number/],
  ["end", "throws", /.*\bReceived type number/],
  ["idleTimeout", "throws", "failure of idleTimeout"],
  ["idleTimeout", "rejects", "it must return a number of ms, not Promise"],
  ["idleTimeout", "returns NaN", "it must return a number of ms, not NaN"],
  ["idleTimeout", "returns a string", "it must return a number of ms, not 'nonsense'"],
])("a connection moves like the others though its %s %s", async (member, how, why) => {
  const { service, bad, good } = await start(member, how);
  await service.replace();
  for (const client of [bad, ...good]) expect(await say(client, "more\n")).toBe("1 2\n");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 3, destroyed: 0 });
  await expectOneWarning(service, member, why);
});

test.each([
  ["throws", "failure of quiesce"],
  ["rejects", "it must return a function or undefined, not Promise"],
  ["returns a string", "it must return a function or undefined, not 'nonsense'"],
])("a busy connection moves when it is idle though its quiesce %s", async (how, why) => {
  const { service, bad, good } = await start("quiesce", how);
  await makeBusy(service, bad);
  await service.upgrade();
  await service.until("quiescing");
  for (const client of good) await sayUntilMoved(client);
  expect(await say(bad, "line\n")).toBe("0 2\n");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 3, destroyed: 0 });
  expect(await say(bad, "more\n")).toBe("1 3\n");
  await expectOneWarning(service, "quiesce", why);
});

test.each(["throws", "rejects"])("a rollback is complete though the undo of a quiesce %s", async (how) => {
  const { service, port, bad } = await start("undo", how, { probation: 20_000 });
  await makeBusy(service, bad);
  const { pid } = await service.upgrade();
  await service.until("quiescing");
  process.kill(pid, "SIGKILL");
  await service.until("rollback");
  expect(await say(bad, "line\n")).toBe("0 2\n");
  expect(await say(await Client.open(port), "new\n")).toBe("0 1\n");
  await expectOneWarning(service, "the undo of quiesce", "failure of undo");
});

test("a connection whose thaw rejects is closed, and others move", async () => {
  const { service, bad, good } = await start("thaw", "rejects");
  await service.replace();
  for (const client of good) expect(await say(client, "more\n")).toBe("1 2\n");
  expect(await bad.ended).not.toBe("");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 3, destroyed: 0 });
  await expectOneWarning(service, "thaw", "failure of thaw");
});

test("idleTimeout is called once for a connection that the next successor refuses", async () => {
  const { service, bad, good } = await start("idleTimeout", "throws the second time", {
    versions: [1, 1, 2],
  });
  await service.replace();
  await service.upgrade();
  for (const client of [bad, ...good]) {
    expect(await say(client, "more\n")).toBe("1 2\n");
    client.socket.end();
  }
  expect(await service.until("exit", { generation: 1 })).toMatchObject({ moved: 0 });
  expect(service.lines.filter(({ event }) => event === "uncaught")).toEqual([]);
});

test.each([
  ["throws", "failure of close"],
  ["rejects", "it must return true or false, not Promise"],
])(
  "a stop ends at the drain timeout though a close %s, and closes the other connections",
  async (how, why) => {
    const { service, bad, good } = await start("close", how, { drainTimeout: 2_000 });
    process.kill(service.pid, "SIGUSR2");
    expect(await Promise.all(good.map(({ ended }) => ended))).toEqual(["end", "end"]);
    await service.until("stopped");
    expect(await bad.ended).not.toBe("");
    expect(await service.until("exit")).toMatchObject({ outcome: "stopped", destroyed: 1 });
    await expectOneWarning(service, "close", why);
  },
);

test("an upgrade ends at the drain timeout though a close throws, and closes the other connections", async () => {
  const { service, bad, good } = await start("close", "throws", { drainTimeout: 2_000 });
  await makeBusy(service, bad, good[0]!);
  await service.upgrade();
  expect(await good[0]!.ended).toBe("end");
  expect(await say(good[1]!, "more\n")).toBe("1 2\n");
  expect(await bad.ended).not.toBe("");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1, destroyed: 1 });
  await expectOneWarning(service, "close", "failure of close");
});
