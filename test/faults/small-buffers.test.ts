import { expect, test } from "vitest";
import { Client } from "../support/client.js";
import { FaultInjector } from "../support/fault-injector.js";
import { Service, temporaryDirectory, type Line } from "../support/service.js";
import { WebSocketClient } from "../support/websocket.js";

const KIB = 1024;

interface Settings {
  slots: { count: number; size: number };
  units: { count: number; size: number };
  sockets: number;
}

async function start(first: number, largest: number, settings: Settings): Promise<[Service, Line]> {
  const { env } = new FaultInjector({ first, largest });
  const options = { probation: 1_000, drainTimeout: 60_000, directory: temporaryDirectory() };
  const service = Service.start("holds-everything.js", { settings: { ...settings, ...options }, env });
  return [service, await service.until("accepting")];
}

test.each([
  ["4,608 bytes that can grow", 4_608, 104 * KIB, 200],
  ["32 KiB that cannot grow", 32 * KIB, 16 * KIB, 60],
  ["4,608 bytes, the smallest of Linux", 4_608, 1, 60],
])(
  "everything moves over a socket with a buffer of %s",
  { timeout: 100_000 },
  async (_, first, largest, sockets) => {
    const [service, { port }] = await start(first, largest, {
      slots: { count: 100, size: 20_000 },
      units: { count: 500, size: 1_500 },
      sockets,
    });
    const clients = await Client.openAll(port as number, 200);
    const url = `ws://127.0.0.1:${String(port)}`;
    const webSockets = await Promise.all(Array.from({ length: 200 }, async () => WebSocketClient.open(url)));
    const answers = async (count: number): Promise<void> => {
      const { pid } = service.accepting!;
      expect(await Promise.all(clients.map(async (client) => client.ask()))).toEqual(
        Array(200).fill(`${pid}`),
      );
      const counted = await Promise.all(webSockets.map(async (client) => client.ask("x")));
      expect(counted).toEqual(Array(200).fill(`${pid} ${count}`));
    };
    await answers(1);
    await service.replace();
    await answers(2);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({
      moved: 400,
      stayed: {},
      destroyed: 0,
    });
    await service.until("holding", { generation: 1, slots: 100, units: 500 });
    expect(service.noise).toBe("");
  },
);

test("a successor whose message is too large for the socket says so, and the predecessor serves", async () => {
  const [service, { port }] = await start(4_608, 1, {
    slots: { count: 0, size: 0 },
    units: { count: 0, size: 0 },
    sockets: 200,
  });
  const client = await Client.open(port as number);
  await service.upgrade("failed", { generation: 0, pid: service.pid });
  await service.untilNoise(
    /cannot send ready: \d+ bytes, at most 4576, because the socket's buffer is small \(net\.core\.wmem_max\)/,
  );
  expect(await client.ask()).toBe(String(service.pid));
  expect(service.alive()).toEqual([service.pid]);
});
