import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import { autoOption } from "../../dist/supervisor/auto-option.js";
import { Auto } from "../support/auto.js";

/** Sends until the process answers: between two processes the kernel keeps what arrives. */
async function ask(client: Socket, port: number, text: string): Promise<string> {
  client.send(text, port, "127.0.0.1");
  const [data] = (await once(client, "message")) as [Buffer];
  return data.toString();
}

async function open(): Promise<Socket> {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  onTestFinished(() => void socket.close());
  return socket;
}

test.each([["echo"], ["asks"]])(
  "a program that is bound to a port (%s) receives every datagram over three upgrades",
  async (kind) => {
    const auto = await Auto.start("datagrams.mjs", { settings: { kind } });
    await auto.service.until("listening");
    const client = await open();
    let count = 0;
    for (let n = 0; n < 3; n++) {
      expect(await ask(client, auto.port, String(count))).toMatch(new RegExp(`^\\d+ ${count++}$`));
      const pid = await auto.upgrade();
      expect(await ask(client, auto.port, String(count))).toBe(`${pid} ${count++}`);
      expect(await auto.service.until("listening", { pid })).toMatchObject({ address: { port: auto.port } });
    }
    const received = auto.service.lines.filter(({ event }) => event === "datagram");
    expect(received.map(({ text }) => Number(text))).toEqual(Array.from({ length: count }, (_, n) => n));
    expect(await auto.service.exited).toEqual([0, null]);
    expect((await auto.run("stop", String(auto.pid))).code).toBe(0);
    await auto.service.ended();
    expect(auto.service.noise).toBe("");
  },
);

test("a datagram that is sent before the socket is bound comes from its port", async () => {
  const auto = await Auto.start("datagrams.mjs", { settings: { kind: "sends" } });
  expect(await auto.service.until("sent")).toMatchObject({ data: "early", from: true });
});

test("a socket that shares its address is bound by each process itself", async () => {
  const auto = await Auto.start("datagrams.mjs", { settings: { kind: "shared" } });
  await auto.service.until("listening");
  const pid = await auto.upgrade();
  expect(await auto.service.until("listening", { pid })).toMatchObject({ address: { port: auto.port } });
});

describe("what a program sees of bind() is the same as without handover", () => {
  test.each([
    "port",
    "port and address",
    "port as text",
    "options",
    "host by name",
    "nothing",
    "exclusive",
    "too large a port",
    "port of another socket",
    "host that does not exist",
    "address of another host",
    "twice",
    "close at once",
  ])("%s", async (form) => {
    const other = await open();
    const see = async (nodeArgs: string[]): Promise<unknown> => {
      const settings = { form, taken: other.address().port };
      const { port, service } = await Auto.start("datagrams.mjs", { nodeArgs, settings });
      const { seen } = await service.until("seen");
      expect(service.noise).toBe("");
      return JSON.parse(JSON.stringify(seen).replaceAll(String(port), "0")) as unknown;
    };
    expect(await see([autoOption()])).toEqual(await see([]));
  });
});
