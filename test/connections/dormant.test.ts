import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import type { ConnectionAdapter } from "../../dist/connections/adapter.js";
import { DormantConnections, type DormantConnection } from "../../dist/connections/dormant.js";
import { Drain } from "../../dist/connections/drain.js";
import { encodeConnection } from "../../dist/connections/connection-parcel.js";
import { AdapterGuard } from "../../dist/connections/guarded-adapter.js";
import { Tracker } from "../../dist/connections/tracker.js";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import type { Delivery, Exchange } from "../../dist/exchange/exchange.js";
import type { Settlement } from "../../dist/exchange/parcel.js";
import { SilenceWatch } from "../../dist/connections/silence-watch.js";
import { native } from "../../dist/platform/native.js";
import { descriptorOf } from "../../dist/platform/node-internals.js";

const adapter: ConnectionAdapter = {
  name: "x",
  version: 1,
  idle: () => true,
  freeze: () => {},
  thaw: () => {},
  idleTimeout: () => 60_000,
};

test("a dormant connection whose client has sent in time is woken, though the event loop was blocked past its timeout", async () => {
  const [own, other] = native().socketpair() as [number, number];
  const how = await new Promise<string>((resolve) => {
    const watch = SilenceWatch.open({
      spoke: () => resolve("spoke"),
      expired: () => resolve("expired"),
    })!;
    watch.add({ fd: own, deadline: performance.now() + 100 });
    native().send(other, Buffer.from("hello"), []);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_100);
  });
  expect(how).toBe("spoke");
  native().close(other);
});

test("a dormant connection over TLS that wakes keeps no secrets: its socket has its own", async () => {
  const [own, other] = native().streamPair() as [number, number];
  const woken = await new Promise<DormantConnection>((resolve) => {
    const server = { server: createServer(), label: "a" };
    const all = new DormantConnections(server, { wake: (one) => resolve(one), ended: () => {} });
    onTestFinished(() => all.dispose());
    const records = Buffer.from("secrets");
    all.adopt({ fd: own, state: undefined, adapter: new AdapterGuard(adapter), records }, 60_000);
    native().send(other, Buffer.from("hello"), []);
  });
  expect(woken.records).toEqual(new Uint8Array("secrets".length));
  for (const fd of [own, other]) native().close(fd);
});

describe("a drain of a dormant connection", () => {
  test("a drain counts a dormant connection that it destroys", async () => {
    expect(await new Drain(await adopted(), context(50)).done).toMatchObject({ destroyed: 1, unsettled: 0 });
  });

  test("a drain with a dormant connection ends in time, and counts it as unsettled, though the successor never answers", async () => {
    const tracker = await adopted();
    const { done } = new Drain(tracker, context(50, successor(new Promise(() => {}))));
    expect(await done).toEqual({ destroyed: 0, unsettled: 1, moved: 0, stayed: {} });
    expect(tracker.size).toBe(0);
  });

  test("a drain ends a connection whose settlement is lost, and counts it as unsettled", async () => {
    const tracker = await adopted();
    const lost = Promise.resolve({ how: "lost" } as const);
    const { done } = new Drain(tracker, context(10_000, successor(lost)));
    expect(await done).toEqual({ destroyed: 0, unsettled: 1, moved: 0, stayed: {} });
    expect(tracker.size).toBe(0);
  });

  test("a drain offers a dormant connection once if the successor refuses it, and closes it when it stays silent", async () => {
    const refusal = { how: "refused", code: "ERR_VERSION" } as const;
    const { done } = new Drain(await adopted(), context(10_000, successor(Promise.resolve(refusal))));
    expect(await done).toEqual({ destroyed: 0, unsettled: 0, moved: 0, stayed: { ERR_VERSION: 1 } });
  });

  test("a drain offers a dormant connection once if the successor refuses it, though its client speaks", async () => {
    const refusal = Promise.resolve({ how: "refused", code: "ERR_VERSION" } as const);
    const offers: unknown[] = [];
    const exchange = successor(refusal, (parcels) => offers.push(...parcels));
    const { done } = new Drain(await adopted(refusal), context(500, exchange));
    expect(await done).toEqual({ destroyed: 1, unsettled: 0, moved: 0, stayed: { ERR_VERSION: 1 } });
    expect(offers).toHaveLength(1);
  });
});

function context(timeout: number, exchange?: Exchange): DrainContext {
  return new DrainContext(exchange, new Promise(() => {}), timeout);
}

/** What has one connection, parked, from a predecessor. Its client speaks when `speaks` resolves. */
async function adopted(speaks?: Promise<unknown>): Promise<Tracker> {
  const server = createServer().listen(0, "127.0.0.1");
  const accepted = once(server, "connection") as Promise<[Socket]>;
  await once(server, "listening");
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1").on("error", () => {});
  const [socket] = await accepted;
  const own = native().duplicate(descriptorOf(socket));
  socket.destroy();
  const tracker = new Tracker();
  tracker.watch(server, "lines", adapter);
  onTestFinished(() => {
    tracker.dispose();
    server.close();
    client.destroy();
  });
  void speaks?.then(() => client.write("x"));
  const parcel = encodeConnection({ id: 0, label: "lines", adapter, state: {}, fd: own });
  expect(tracker.adopt(parcel, {} as Delivery)).toBe("taken");
  return tracker;
}

/** Settles all that is offered to it so. */
function successor(
  settled: Promise<Settlement>,
  seen: (parcels: readonly unknown[]) => void = () => {},
): Exchange {
  return {
    peers: () => [{ generation: 2, pid: 1 }],
    offer: (parcels) => {
      seen(parcels);
      return parcels.map(() => ({ settled, withdraw: () => {} }));
    },
  } as Partial<Exchange> as Exchange;
}
