import { io } from "socket.io-client";
import { expect, onTestFinished, test } from "vitest";
import { brief, Service } from "../support/service.js";

test.each([
  ["polling", ["connect", "transport error", 400, "connect"]],
  ["websocket", ["connect", "transport close", "websocket connection closed", "connect"]],
])("a socket.io client on %s reconnects after an upgrade without socketIo()", async (transport, expected) => {
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
});
