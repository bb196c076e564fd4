import { fileURLToPath } from "node:url";
import { createClient, type Client } from "graphql-ws";
import { expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { Service } from "../support/service.js";

interface Tick {
  number: number;
  generation: number;
}

const IS_UP = /(\d+) listens on port (\d+)\n/;

async function start(): Promise<{ service: Service; open: () => Client; closed: number[] }> {
  const program = fileURLToPath(new URL("../../examples/graphql-ws.js", import.meta.url));
  const service = Service.start("", { command: [process.execPath, program], env: { PORT: "0" } });
  await service.untilNoise(IS_UP);
  const port = /port (\d+)/.exec(service.noise)![1]!;
  const closed: number[] = [];
  const open = (): Client => {
    const client = createClient({
      url: `ws://127.0.0.1:${port}`,
      webSocketImpl: WebSocket,
      retryAttempts: 0,
      lazy: false,
      onNonLazyError: () => {},
      on: { closed: (event) => closed.push((event as { code: number }).code) },
    });
    onTestFinished(() => void client.dispose());
    return client;
  };
  return { service, open, closed };
}

/** The PID of the newest process. */
function newest({ noise }: Service): number {
  return Number([...noise.matchAll(new RegExp(IS_UP, "g"))].at(-1)![1]);
}

/** Upgrades the newest process, and waits until it has left. */
async function upgrade(service: Service, meanwhile: () => Promise<unknown>): Promise<void> {
  const pid = newest(service);
  process.kill(pid, "SIGHUP");
  while (!service.noise.includes(`${pid} has left`)) await meanwhile();
}

test("examples/graphql-ws.js continues subscriptions over upgrades, and loses and doubles no event", async () => {
  const { service, open, closed } = await start();
  const client = open();
  const subscribe = (): AsyncIterableIterator<unknown> =>
    client.iterate({ query: "subscription { ticks { number generation } }" });
  const streams = [subscribe(), subscribe()];
  const seen: Tick[][] = [[], []];
  const next = async (n: number): Promise<void> => {
    const { value } = (await streams[n]!.next()) as { value: { data: { ticks: Tick } } };
    seen[n]!.push(value.data.ticks);
  };
  const nextOfAll = async (): Promise<void[]> => Promise.all([next(0), next(1)]);
  await nextOfAll();
  for (let n = 0; n < 3; n++) await upgrade(service, nextOfAll);
  while (seen.some((ticks) => ticks.at(-1)!.generation < 3)) await nextOfAll();
  for (const ticks of seen) {
    expect(ticks.map(({ number }) => number)).toEqual(ticks.map((_, n) => ticks[0]!.number + n));
    expect(new Set(ticks.map(({ generation }) => generation))).toEqual(new Set([0, 1, 2, 3]));
  }
  // The successor knows the operations: the end of one is not that of the other, and new ones begin.
  await streams[0]!.return!();
  const late = subscribe();
  await Promise.all([next(1), late.next()]);
  expect(closed).toEqual([]);
});

test("examples/graphql-ws.js runs no query twice", async () => {
  const { service, open, closed } = await start();
  const client = open();
  const hasClosed = new Promise((resolve) => client.on("closed", resolve));
  const answered = client.iterate<{ slow: number }>({ query: "{ slow }" }).next();
  await service.untilNoise(/begins/);
  process.kill(newest(service), "SIGHUP");
  expect((await answered).value).toEqual({ data: { slow: 0 } });
  await hasClosed;
  expect(service.noise.match(/begins/g)).toHaveLength(1);
  expect(closed).toEqual([1012]);
});
