import { once } from "node:events";
import { readlinkSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect, Socket, type AddressInfo } from "node:net";
import { expect, onTestFinished, test, vi } from "vitest";
import { Drain } from "../../dist/connections/drain.js";
import { ConnectionMover } from "../../dist/connections/mover.js";
import { Tracker } from "../../dist/connections/tracker.js";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import type { Exchange } from "../../dist/exchange/exchange.js";
import type { Settlement } from "../../dist/exchange/parcel.js";
import { descriptorOf } from "../../dist/platform/node-internals.js";
import { native } from "../../dist/platform/native.js";

test("a socket whose connection has moved gives it up at once, and is closed later", async () => {
  const { server, tracker, sockets } = await idle(3);
  const { fds } = await move(tracker, sockets);
  expect(sockets.map(({ destroyed }) => destroyed)).toEqual([false, false, false]);
  expect(fds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`))).toEqual([
    "/dev/null",
    "/dev/null",
    "/dev/null",
  ]);
  expect(tracker.size).toBe(0);
  expect(await connectionsOf(server)).toBe(0);
  await Promise.all(sockets.map((socket) => once(socket, "close")));
  expect(await connectionsOf(server)).toBe(0);
});

test("the callback of server.close() does not wait for the sockets of connections that have moved", async () => {
  const { server, tracker, sockets } = await idle(2);
  await move(tracker, sockets);
  await new Promise((resolve) => server.close(resolve));
  expect(tracker.size).toBe(0);
});

test("server.close() leaves the sockets of connections that have moved to be closed later", async () => {
  const { server, tracker, sockets } = await idle(2);
  await move(tracker, sockets);
  server.close();
  expect(sockets.map(({ destroyed }) => destroyed)).toEqual([false, false]);
});

test("a socket whose connection has moved is closed at once if the program listens to its end", async () => {
  const { tracker, sockets } = await idle(2);
  const closed = once(sockets[0]!, "close");
  await move(tracker, sockets);
  expect(sockets.map(({ destroyed }) => destroyed)).toEqual([true, false]);
  await closed;
});

test.each(["write", "end"] as const)(
  "%s() on a socket whose connection has moved closes it, and fails",
  async (call) => {
    const { tracker, sockets, peers } = await idle(1);
    const { copies } = await move(tracker, sockets);
    const [socket] = sockets as [Socket];
    const failed = new Promise((resolve) => socket[call]("late", resolve));
    expect(socket.destroyed).toBe(true);
    expect(await failed).toMatchObject({ code: "ERR_STREAM_DESTROYED" });
    // The client gets what the successor writes, and nothing else.
    copies[0]!.write("successor");
    expect(String(await once(peers[0]!, "data"))).toBe("successor");
  },
);

test("a drain begins no timer of a part of a millisecond, which would give the timers of all sockets a new shape", async () => {
  const { tracker } = await idle(1);
  const context = new DrainContext(undefined, Promise.resolve(true), 60_000, undefined);
  const timers = vi.spyOn(globalThis, "setTimeout");
  const drain = new Drain(tracker, context);
  const lengths = timers.mock.calls.map(([, ms]) => ms);
  timers.mockRestore();
  drain.cancel();
  context.end();
  expect(lengths).toEqual([expect.toSatisfy(Number.isInteger)]);
});

/** An HTTP server with so many idle connections. */
async function idle(
  count: number,
): Promise<{ server: Server; tracker: Tracker; sockets: Socket[]; peers: Socket[] }> {
  const server = createServer((_, response) => response.end("ok")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const tracker = new Tracker();
  tracker.watch(server, "http", undefined);
  const sockets: Socket[] = [];
  const peers: Socket[] = [];
  onTestFinished(() => {
    tracker.dispose();
    server.close();
    for (const socket of [...sockets, ...peers]) socket.destroy();
  });
  for (let n = 0; n < count; n++) {
    const accepted = once(server, "connection") as Promise<[Socket]>;
    const peer = connect((server.address() as AddressInfo).port, "127.0.0.1").on("error", () => {});
    peer.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    sockets.push((await accepted)[0]);
    peers.push(peer);
    await once(peer, "data");
  }
  return { server, tracker, sockets, peers };
}

/** Moves all to a successor, whose sockets are `copies`. */
async function move(tracker: Tracker, sockets: Socket[]): Promise<{ fds: number[]; copies: Socket[] }> {
  const fds = sockets.map(descriptorOf);
  const copies = fds.map((fd) => new Socket({ fd: native().duplicate(fd), readable: true, writable: true }));
  onTestFinished(() => {
    for (const copy of copies) copy.destroy();
  });
  const mover = new ConnectionMover(tracker, taker);
  await mover.swept;
  mover.stop();
  expect(mover.counts).toEqual({ moved: sockets.length, stayed: {} });
  return { fds, copies };
}

async function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
}

const taken: Settlement = { how: "taken", by: { generation: 1, pid: 1 }, confirmed: Promise.resolve(true) };

/** A successor that takes all. */
const taker = {
  peers: () => [{ generation: 1, pid: 1 }],
  offer: (parcels) => parcels.map(() => ({ settled: Promise.resolve(taken), withdraw: () => {} })),
} as Partial<Exchange> as Exchange;
