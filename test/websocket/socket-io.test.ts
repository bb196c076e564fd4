import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { expect, onTestFinished, test } from "vitest";
import { brief, Service } from "../support/service.js";

test("examples/socket.io.js keeps its clients connected over upgrades", async () => {
  const program = fileURLToPath(new URL("../../examples/socket.io.js", import.meta.url));
  const service = Service.start("", { command: [process.execPath, program], env: { PORT: "0" } });
  const isUp = /(\d+) listens on port (\d+)\n/g;
  await service.untilNoise(isUp);
  const port = /port (\d+)/.exec(service.noise)![1]!;
  const client = io(`http://127.0.0.1:${port}`, { transports: ["websocket"] });
  onTestFinished(() => void client.disconnect());
  const told: string[] = [];
  for (const event of ["connect", "disconnect"]) client.on(event, () => told.push(event));
  await new Promise<void>((resolve) => client.once("connect", resolve));
  const { id } = client;

  const counts: number[] = [];
  const talk = async (): Promise<number> => {
    const { generation, count } = (await client.emitWithAck("add")) as { generation: number; count: number };
    counts.push(count);
    return generation;
  };
  let pid = service.pid;
  for (let generation = 1; generation <= 2; generation++) {
    const left = service.untilNoise(new RegExp(`${pid} has left`));
    process.kill(pid, "SIGHUP");
    while ((await talk()) < generation);
    await left;
    pid = Number([...service.noise.matchAll(isUp)].at(-1)![1]);
  }
  await talk();
  expect(counts).toEqual(counts.map((_, n) => n + 1));
  expect([told, client.id]).toEqual([["connect"], id]);
});

test.each([
  ["polling", ["connect", "transport error", 400, "connect"]],
  ["websocket", ["connect", "transport close", "websocket connection closed", "connect"]],
])(
  "a socket.io client on %s reconnects after an upgrade without the example",
  async (transport, expected) => {
    const settings = { ...brief, drainTimeout: 3_000 };
    const service = Service.start("serves-socket-io.js", { settings });
    const { port } = await service.until("accepting");
    const client = io(`http://127.0.0.1:${String(port)}`, { transports: [transport] });
    onTestFinished(() => void client.disconnect());
    const told: unknown[] = [];
    client.on("disconnect", (reason, details) => {
      told.push(reason, (details as { description?: unknown } | undefined)?.description);
    });
    const connected = (): Promise<void> =>
      new Promise((resolve) => {
        client.once("connect", () => {
          told.push("connect");
          resolve();
        });
      });
    await connected();
    const again = connected();
    await service.upgrade();
    await again;
    expect(told).toEqual(expected);
    expect(await client.emitWithAck("generation")).toBe(1);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ destroyed: 0 });
  },
);
