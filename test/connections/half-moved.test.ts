import { expect, test } from "vitest";
import { Client, selfSigned } from "../support/client.js";
import { Service } from "../support/service.js";

/** Of successors over TLS. The whole proof: `npm run test:kills`. */
const KILLS = Number(process.env["HANDOVER_KILLS"] ?? 16);

/** One offer has up to 64 connections. */
const GREETED = 64;
const UNTOUCHED = 36;

test.each([
  ["", 4, () => ({}), (port: number) => Client.open(port)],
  // With TLS a predecessor that continued one would use the sequence numbers of the greeting again.
  ["TLS ", KILLS, selfSigned, (port: number) => Client.openTls(port)],
])(
  "a %sconnection on which a successor has written before it died is closed, and others are taken back",
  async (_, rounds, identity, open) => {
    const { service, port } = await start({ greets: GREETED, dies: 1, probation: 20_000, ...identity() });
    for (let round = 0; round < rounds; round++) {
      const clients = await Promise.all(Array.from({ length: GREETED + UNTOUCHED }, () => open(port)));
      for (const client of clients) expect(await say(client, "a\n")).toBe("0 1\n");
      const from = service.lines.length;
      await service.upgrade("rollback");
      expect(service.lines.slice(from).filter(({ event }) => event === "upgraded")).toHaveLength(1);
      // Said after the rollback: a connection that was taken back answers, one that is closed does not.
      const outcomes = await Promise.all(clients.map(outcome));
      expect(outcomes.filter((text) => text === "greeting\n")).toHaveLength(GREETED);
      expect(outcomes.filter((text) => text === "0 2\n")).toHaveLength(UNTOUCHED);
      // A record with a number that was used before would be an error of TLS.
      const ends = clients.filter(({ text }) => text === "greeting\n").map(({ ended }) => ended);
      expect((await Promise.all(ends)).filter((end) => !["end", "ECONNRESET"].includes(end))).toEqual([]);
      for (const client of clients) client.socket.destroy();
    }
  },
  120_000 + 3_000 * KILLS,
);

test("a connection that moved before is taken back from a successor that has died, if that has not written on it", async () => {
  const { service, port } = await start({ greets: 1, dies: 2, probation: 50 });
  const clients = await Client.openAll(port, 2);
  for (const client of clients) expect(await say(client, "a\n")).toBe("0 1\n");
  await service.replace();
  for (const client of clients) await client.until(/greeting\n/);
  await service.upgrade("upgraded");
  await Promise.race(clients.map(({ ended }) => ended));
  const outcomes = await Promise.all(clients.map(outcome));
  expect(outcomes.toSorted()).toEqual(["1 2\n", "greeting\n"]);
});

test.each(["stopped", "blocked"])(
  "a TLS connection on which a successor has written before it was %s and killed is closed, and others are taken back",
  async (hangs) => {
    // Longer than it takes to adopt on a busy machine: a process that is confirmed is not killed.
    const settings = { greets: 8, dies: 1, hangs, probation: 3_000, ...selfSigned() };
    const { service, port } = await start(settings);
    const clients = await Promise.all(Array.from({ length: 12 }, () => Client.openTls(port)));
    for (const client of clients) expect(await say(client, "a\n")).toBe("0 1\n");
    expect(await service.upgrade("rollback")).toMatchObject({ code: "ERR_UNRESPONSIVE" });
    const outcomes = await Promise.all(clients.map(outcome));
    expect(outcomes.toSorted()).toEqual([
      ...Array.from({ length: 4 }, () => "0 2\n"),
      ...Array.from({ length: 8 }, () => "greeting\n"),
    ]);
    const ends = clients.filter(({ text }) => text === "greeting\n").map(({ ended }) => ended);
    expect((await Promise.all(ends)).filter((end) => !["end", "ECONNRESET"].includes(end))).toEqual([]);
  },
);

test("a TLS connection on which a successor has written before it refused is closed by the successor", async () => {
  const { service, port } = await start({ refuses: 1, probation: 50, ...selfSigned() });
  const client = await Client.openTls(port);
  expect(await say(client, "a\n")).toBe("0 1\n");
  await service.upgrade();
  expect(await client.ended).toBe("end");
  expect(client.text).toBe("greeting\n");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1, stayed: {} });
  expect(service.noise).toContain("HANDOVER_ADAPTER");
});

test("a connection that moved by half is counted", async () => {
  const { service, port } = await start({ greets: 1, dies: 1, probation: 50 });
  const client = await Client.open(port);
  expect(await say(client, "a\n")).toBe("0 1\n");
  client.socket.write("half a ");
  await service.until("busy");
  await service.upgrade();
  await service.confirmed(1);
  expect(await say(client, "line\n")).toBe("0 2\n");
  await client.ended;
  expect(client.text).toBe("greeting\n");
  expect(await service.until("exit", { generation: 0 })).toMatchObject({
    moved: 0,
    destroyed: 0,
    stayed: { ERR_HALF_MOVED: 1 },
  });
});

test("a dormant connection on which a successor has written before it died is closed, and others are taken back", async () => {
  const { service, port } = await start({ greets: 1, dies: 2, dormant: 1, probation: 50 });
  const clients = await Client.openAll(port, 2);
  for (const client of clients) expect(await say(client, "a\n")).toBe("0 1\n");
  await service.replace();
  await service.upgrade("upgraded");
  await Promise.race(clients.map(({ ended }) => ended));
  const outcomes = await Promise.all(clients.map(outcome));
  expect(outcomes.toSorted()).toEqual(["greeting\n", "greeting\n1 2\n"]);
});

async function start(settings: object): Promise<{ service: Service; port: number }> {
  const service = Service.start("greets-and-dies.js", { settings });
  return { service, port: (await service.until("accepting"))["port"] as number };
}

async function say(client: Client, text: string): Promise<string> {
  client.socket.write(text);
  return client.until(/\n/);
}

/** All that a client receives, until its connection is closed or has answered a second line. */
async function outcome(client: Client): Promise<string> {
  client.socket.write("b\n");
  await Promise.race([client.ended, client.until(/^\d+ 2\n/m).then((text) => (client.text = text))]);
  return client.text;
}
