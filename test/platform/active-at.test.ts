import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { activeAt } from "../../dist/platform/node-internals.js";
import { Client } from "../support/client.js";

async function serve(keepAliveTimeout: number): Promise<{ server: Server; open: () => Promise<Client> }> {
  const server = createServer({ keepAliveTimeout }, (_, response) => response.end("ok"));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return { server, open: () => Client.open((server.address() as AddressInfo).port) };
}

test("the last activity of a connection is that of its last request", async () => {
  const { server, open } = await serve(60_000);
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const began = performance.now();
  const client = await open();
  const [socket] = await accepted;
  await client.ask();
  const answered = performance.now();
  const other = await open();
  let before = answered;
  while (performance.now() - answered < 50) {
    before = performance.now();
    await other.ask();
  }
  const [active, after] = [activeAt(socket)!, performance.now()];
  // The clock of timers has whole milliseconds, and stands still in a turn: this turn began after the last request.
  expect(active).toBeLessThanOrEqual(answered + after - before + 2);
  expect(active).toBeGreaterThanOrEqual(began - 2);
  await client.ask();
  expect(activeAt(socket)).toBeGreaterThan(active);
});

test("the last activity of a connection without a timeout is unknown", async () => {
  const { server, open } = await serve(0);
  const accepted = once(server, "connection") as Promise<[Socket]>;
  await (await open()).ask();
  expect(activeAt((await accepted)[0])).toBeUndefined();
});
