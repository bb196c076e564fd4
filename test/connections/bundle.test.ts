import { once } from "node:events";
import { openSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import type { ConnectionAdapter } from "../../dist/connections/adapter.js";
import { BUNDLE_KIND, bundled, pack, type Bundled } from "../../dist/connections/bundle.js";
import { CONNECTION_KIND, encodeConnection } from "../../dist/connections/connection-parcel.js";
import { AdapterGuard } from "../../dist/connections/guarded-adapter.js";
import { ConnectionMover } from "../../dist/connections/mover.js";
import { Tracker } from "../../dist/connections/tracker.js";
import type { Delivery, Exchange } from "../../dist/exchange/exchange.js";
import type { Parcel, Settlement } from "../../dist/exchange/parcel.js";
import { native } from "../../dist/platform/native.js";

const adapter: ConnectionAdapter = {
  name: "lines",
  version: 1,
  idle: () => true,
  freeze: () => ({ n: 1 }),
  thaw: () => {},
  idleTimeout: () => 60_000,
};
const taken: Settlement = { how: "taken", by: { generation: 1, pid: 1 }, confirmed: Promise.resolve(true) };

test("frozen connections share a parcel with their neighbors of the same listener and adapter", () => {
  const [one, other] = [new AdapterGuard(adapter), new AdapterGuard({ ...adapter, name: "other" })];
  const whole = { content: encodeConnection({ id: 9, label: "a", adapter, state: {}, fd: 6 }) };
  const frozen = [
    part("a", one, 1),
    part("a", one, 2),
    part("b", one, 3),
    part("b", other, 4),
    part("b", other, 5),
    whole,
  ];
  let id = 0;
  const parcels = pack(frozen, () => id++).map(({ parcel, members }) => {
    const fds = members.map((member) => ("fd" in member.content ? member.content.fd : member.content.fds[0]));
    expect(fds).toEqual(parcel.fds);
    return [parcel.id, parcel.kind, parcel.label, Buffer.from(parcel.body).toString()];
  });
  expect(parcels).toEqual([
    ["0", BUNDLE_KIND, "a", '{"protocol":"lines","states":[{"fd":1},{"fd":2}]}'],
    ["1", CONNECTION_KIND, "b", '{"protocol":"lines","state":{"fd":3}}'],
    ["9", CONNECTION_KIND, "a", '{"protocol":"lines","state":{}}'],
    ["2", BUNDLE_KIND, "b", '{"protocol":"other","states":[{"fd":4},{"fd":5}]}'],
  ]);
});

test.each([
  ["has unread bytes", adapter, { unread: new Uint8Array(1) }],
  ["has a record layer", adapter, { records: new Uint8Array(1) }],
  ["has no state", adapter, { state: undefined }],
  ["has a large state", adapter, { state: "x".repeat(2_000) }],
  ["must be thawed at once", { ...adapter, idleTimeout: undefined }, {}],
])("a connection that %s has a parcel of its own", (_, by, parts) => {
  const guard = new AdapterGuard(by as ConnectionAdapter);
  expect(bundled({ label: "a", adapter: guard, state: {}, fd: 1, ...parts })).toBeUndefined();
});

test("idle connections move in one parcel", async () => {
  const { tracker } = await connections(5);
  const offers: Parcel[] = [];
  const mover = new ConnectionMover(
    tracker,
    successor(offers, () => taken),
  );
  await mover.swept;
  expect(offers.map(({ kind, fds }) => [kind, fds.length])).toEqual([[BUNDLE_KIND, 5]]);
  expect(mover.counts).toEqual({ moved: 5, stayed: {} });
  await tracker.whenEmpty();
  mover.stop();
});

test("a successor that does not take bundles gets the connections one by one", async () => {
  const { tracker } = await connections(3);
  const offers: Parcel[] = [];
  const mover = new ConnectionMover(
    tracker,
    successor(offers, () => taken, [CONNECTION_KIND]),
  );
  await mover.swept;
  expect(offers.map(({ kind, fds }) => [kind, fds.length])).toEqual(
    Array.from({ length: 3 }, () => [CONNECTION_KIND, 1]),
  );
  expect(mover.counts.moved).toBe(3);
  mover.stop();
});

test("connections whose bundle is refused are offered one by one, and stay for a reason of their own", async () => {
  const { tracker, clients } = await connections(3);
  const offers: Parcel[] = [];
  let refused = 0;
  const mover = new ConnectionMover(
    tracker,
    successor(offers, ({ kind }) =>
      kind === BUNDLE_KIND || refused++ === 0 ? { how: "refused", code: "ERR_NO_TAKER" } : taken,
    ),
  );
  await mover.swept;
  expect(offers.map(({ kind }) => kind)).toEqual([
    BUNDLE_KIND,
    ...Array.from({ length: 3 }, () => CONNECTION_KIND),
  ]);
  expect(mover.counts).toEqual({ moved: 2, stayed: { ERR_NO_TAKER: 1 } });
  mover.stop();
  // The one that stays is read again.
  expect(tracker.size).toBe(1);
  for (const client of clients) client.end();
  await tracker.whenEmpty();
});

test("a bundle is adopted as dormant connections", async () => {
  const { tracker, clients, server } = await connections(0);
  const sockets = await accepted(server, 2);
  const [own, theirs] = [sockets.map(({ fd }) => native().duplicate(fd)), sockets.map(({ peer }) => peer)];
  for (const { socket } of sockets) socket.destroy();
  await tracker.whenEmpty();
  clients.push(...theirs);
  expect(tracker.adopt(bundleOf(own), {} as Delivery)).toBe("taken");
  expect(tracker.size).toBe(2);
  tracker.destroyAll();
  expect(tracker.size).toBe(0);
});

test.each([
  ["another version", { version: 2 }, "ERR_VERSION"],
  ["an unknown protocol", { protocol: "other" }, "ERR_NO_TAKER"],
  ["a state too few", { states: 1 }, "ERR_NO_TAKER"],
])("a bundle of %s is refused as a whole", async (_, wrong, code) => {
  const { tracker } = await connections(0);
  const fds = native().socketpair() as [number, number];
  const parcel = bundleOf(fds, wrong);
  expect(tracker.adopt(parcel, {} as Delivery)).toEqual({ code });
  expect(tracker.size).toBe(0);
  for (const fd of fds) expect(native().close(fd)).toBe(0);
});

test("a bundle with a descriptor that cannot be watched is refused as a whole", async () => {
  const { tracker, server } = await connections(0);
  const [one, other] = native().socketpair() as [number, number];
  const fds = [one, other, openSync("/dev/null", "r")];
  expect(() => tracker.adopt(bundleOf(fds), {} as Delivery)).toThrow("EPERM");
  expect(tracker.size).toBe(0);
  expect(await new Promise((resolve) => server.getConnections((_, count) => resolve(count)))).toBe(0);
  // Not watched: else the second time would be an EEXIST.
  expect(tracker.adopt(bundleOf([one, other]), {} as Delivery)).toBe("taken");
  native().close(fds[2]!);
  tracker.destroyAll();
});

function part(label: string, by: AdapterGuard, fd: number): { content: Bundled } {
  return { content: bundled({ label, adapter: by, state: { fd }, fd })! };
}

function bundleOf(fds: number[], { version = 1, protocol = "lines", states = fds.length } = {}): Parcel {
  const body = JSON.stringify({ protocol, states: Array.from({ length: states }, () => ({})) });
  return { kind: BUNDLE_KIND, label: "lines", id: "0", version, codec: "json", body: Buffer.from(body), fds };
}

/** A tracked server with so many idle connections. */
async function connections(count: number): Promise<{ tracker: Tracker; server: Server; clients: Socket[] }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const tracker = new Tracker();
  tracker.watch(server, "lines", adapter);
  const clients: Socket[] = [];
  onTestFinished(() => {
    tracker.dispose();
    server.close();
    for (const client of clients) client.destroy();
  });
  for (const { peer } of await accepted(server, count)) clients.push(peer);
  return { tracker, server, clients };
}

async function accepted(
  server: Server,
  count: number,
): Promise<{ fd: number; socket: Socket; peer: Socket }[]> {
  const all = [];
  for (let n = 0; n < count; n++) {
    const connected = once(server, "connection") as Promise<[Socket]>;
    const peer = connect((server.address() as AddressInfo).port, "127.0.0.1").on("error", () => {});
    const [socket] = await connected;
    socket.resume();
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
    all.push({ fd, socket, peer });
  }
  return all;
}

/** Takes parcels of these kinds. */
function successor(
  offers: Parcel[],
  settle: (parcel: Parcel) => Settlement,
  kinds = [CONNECTION_KIND, BUNDLE_KIND],
): Exchange {
  return {
    peers: (kind) => (kinds.includes(kind) ? [{ generation: 1, pid: 1 }] : []),
    offer: (parcels) => {
      offers.push(...parcels);
      return parcels.map((parcel) => ({ settled: Promise.resolve(settle(parcel)), withdraw: () => {} }));
    },
  } as Partial<Exchange> as Exchange;
}
