import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { Tracker } from "../../dist/connections/tracker.js";
import { Client } from "../support/client.js";

/** The sockets of two connections that have made a request, of a server that handover watches or does not. */
async function accept(isWatched: boolean): Promise<Socket[]> {
  const server = createServer((_, response) => response.end("ok"));
  const tracker = new Tracker();
  if (isWatched) tracker.watch(server, "a", undefined);
  const sockets: Socket[] = [];
  server.on("connection", (socket) => sockets.push(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    tracker.dispose();
    server.close();
  });
  for (const client of await Client.openAll((server.address() as AddressInfo).port, 2)) await client.ask();
  return sockets;
}

const properties = (socket: Socket): string[] => Reflect.ownKeys(socket).map(String).toSorted();

const listeners = (socket: Socket): unknown[] =>
  socket.eventNames().flatMap((name) => socket.rawListeners(name));

test("a watched connection has no property of its own, and one listener that all of them share", async () => {
  const [bare] = await accept(false);
  const [one, other] = await accept(true);
  expect(properties(one!)).toEqual(properties(bare!));
  expect(listeners(one!)).toHaveLength(listeners(bare!).length + 1);
  const ofOther = new Set(listeners(other!));
  const shared = listeners(one!).filter((listener) => ofOther.has(listener));
  const sharedByNode = listeners(bare!).filter((listener) => ofOther.has(listener));
  expect(shared).toHaveLength(sharedByNode.length + 1);
});
