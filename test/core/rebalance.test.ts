import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { Channel } from "../../dist/channel/channel.js";
import { Tracker } from "../../dist/connections/tracker.js";
import { Rebalance } from "../../dist/core/rebalance.js";
import type { DeliveryHandler } from "../../dist/exchange/exchange.js";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import { makeRefusal } from "../../dist/exchange/parcel.js";
import { native } from "../../dist/platform/native.js";
import { ExchangeLink } from "../../dist/process/exchange-link.js";
import { Predecessor } from "../../dist/process/predecessor.js";
import { deferred } from "../../dist/util/deferred.js";
import { Client } from "../support/client.js";

test("as many connections move as are wanted, and the others stay", async () => {
  const giver = await serve("giver");
  const taker = await serve("taker");
  const clients = await askedBy(giver.port, 100);
  const { link } = connect(taker.tracker.adopt);
  expect(await new Rebalance(giver.tracker, link, 30).over).toBe(30);
  const answers = await Promise.all(clients.map(ask));
  expect(answers.filter((text) => text.endsWith("taker"))).toHaveLength(30);
  expect(answers.filter((text) => text.endsWith("giver"))).toHaveLength(70);
  expect([giver.tracker.size, taker.tracker.size]).toEqual([70, 30]);
});

test("a connection that is refused stays, and is not asked to close", async () => {
  const giver = await serve("giver");
  const clients = await askedBy(giver.port, 10);
  const { link } = connect(() => makeRefusal("ERR_NO_TAKER"));
  expect(await new Rebalance(giver.tracker, link, 5).over).toBe(0);
  for (const answer of await Promise.all(clients.map(ask))) {
    expect(answer).toMatch(/giver$/);
    expect(answer).not.toMatch(/connection: close/i);
  }
});

test("every connection goes on if the other worker dies before it has taken what was offered", async () => {
  const giver = await serve("giver");
  const clients = await askedBy(giver.port, 100);
  const all = deferred<void>();
  let offered = 0;
  const { link, taker } = connect(async () => {
    if (++offered === 50) all.resolve();
    return new Promise(() => {});
  });
  const rebalance = new Rebalance(giver.tracker, link, 50);
  await all.promise;
  taker.leave();
  expect(await rebalance.over).toBe(0);
  for (const answer of await Promise.all(clients.map(ask))) expect(answer).toMatch(/giver$/);
});

test("no further connection is offered after the end", async () => {
  const giver = await serve("giver");
  const clients = await askedBy(giver.port, 10);
  const { link } = connect(giver.tracker.adopt);
  const rebalance = new Rebalance(giver.tracker, link, 10);
  // The other end has not said yet what it takes.
  rebalance.end();
  expect(await rebalance.over).toBe(0);
  for (const answer of await Promise.all(clients.map(ask))) expect(answer).toMatch(/giver$/);
});

/** An HTTP server that answers with its name. */
async function serve(name: string): Promise<{ port: number; tracker: Tracker }> {
  const server = createServer((_, response) => response.end(name));
  const tracker = new Tracker();
  tracker.watch(server, "web", undefined);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    tracker.destroyAll();
    tracker.dispose();
  });
  return { port: (server.address() as AddressInfo).port, tracker };
}

/** Clients on keep-alive connections that have had an answer. */
async function askedBy(port: number, count: number): Promise<Client[]> {
  const clients = await Client.openAll(port, count);
  await Promise.all(clients.map(ask));
  return clients;
}

async function ask(client: Client): Promise<string> {
  client.text = "";
  client.socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  return client.until(/giver|taker/);
}

/** An exchange link, at whose other end parcels are taken by `take`. */
function connect(take: DeliveryHandler): { link: ExchangeLink; taker: Predecessor } {
  const [own, other] = native().socketpair() as [number, number];
  const peer = { generation: 0, pid: process.pid };
  const taker = new Predecessor(new Channel(other), peer, new FencingTokens());
  taker.exchange.subscribe("connection", undefined, take);
  const link = new ExchangeLink(own, peer, () => ({ connections: 0, remaining: 0 }));
  onTestFinished(() => taker.leave());
  return { link, taker };
}
