import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../../dist/postgres/index.js";
import { freePort } from "../support/port.js";
import { Postgres } from "../support/postgres.js";
import { Service } from "../support/service.js";
import { WebSocketClient } from "../support/websocket.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
  await migrate({ url: server.url });
});
afterAll(async () => server.remove());

async function chat(): Promise<{ service: Service; port: number; address: string }> {
  const port = await freePort();
  const env = { DATABASE: server.url, PORT: String(port), LEASE: "6000" };
  const service = Service.start("", { command: [process.execPath, "examples/hosts-chat.js"], env });
  await service.untilNoise(/chats on/);
  return { service, port, address: `127.0.0.1:${port}` };
}

test("examples/hosts-chat.js moves a room to another host, and tells its members where it is when it is there", async () => {
  const a = await chat();
  const member = await WebSocketClient.open(`ws://${a.address}/lobby`);
  // What was said so far comes first.
  expect(await member.next()).toBe("");
  expect(await member.ask("hello")).toBe("hello");
  const b = await chat();
  const lost = await WebSocketClient.open(`ws://${b.address}/lobby`);
  expect(await lost.closed).toEqual({ code: 1012, reason: a.address });
  await expect.poll(async () => server.query("select from handover.seat")).toHaveLength(2);
  process.kill(a.service.pid, "SIGTERM");
  expect(await member.closed).toEqual({ code: 1012, reason: b.address });
  const again = await WebSocketClient.open(`ws://${b.address}/lobby`);
  expect(await again.next()).toBe("hello");
  expect(await again.ask("still here")).toBe("still here");
  await a.service.untilNoise(/has left: stopped/);
  expect(a.service.noise + b.service.noise).not.toMatch(/warning/i);
});
