import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { etcd } from "../../dist/etcd/index.js";
import type { Settlement } from "../../dist/exchange/parcel.js";
import { Certificates } from "../support/certificates.js";
import { Etcd } from "../support/etcd.js";
import { offer, parcel, taken } from "../support/exchange-suite.js";
import { joinHosts, takeRooms, untilPeers, type Host } from "../support/hosts.js";

const unit = (id: string, size = 10): ReturnType<typeof parcel> =>
  parcel(id, { kind: "unit", label: "room", body: Buffer.alloc(size, "body") });
const ids = (count: number): string[] => Array.from({ length: count }, (_, n) => `r${n}`);

/** A proxy that can keep what the watches are told, as if their connections were half open. It notes beats, and watches. */
async function beforeWatches(target: number): Promise<{ port: number; seen: string[]; stall: () => void }> {
  const seen: string[] = [];
  let stalled = new Set<Socket>();
  const watches = new Set<Socket>();
  const proxy = createServer((client) => {
    const server = connect(target, "127.0.0.1");
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const)
      one.on("error", () => {}).on("close", () => other.destroy());
    client.on("data", (data) => {
      if (data.includes("POST /v3/watch ")) watches.add(client);
      for (const what of ["watch", "lease/keepalive"])
        if (data.includes(`POST /v3/${what} `)) seen.push(what);
      server.write(data);
    });
    server.on("data", (data) => {
      if (!stalled.has(client)) client.write(data);
    });
    onTestFinished(() => void client.destroy());
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  onTestFinished(() => void proxy.close());
  const stall = (): void => {
    stalled = new Set(watches);
    seen.splice(0);
  };
  return { port: (proxy.address() as AddressInfo).port, seen, stall };
}

describe("a watch", () => {
  test("a watch whose connection is half open is replaced before the second beat that follows", async () => {
    const server = await Etcd.start();
    onTestFinished(async () => server.remove());
    const { port, seen, stall } = await beforeWatches(server.port);
    const endpoints = [`http://127.0.0.1:${port}`];
    // A beat comes every 4 s, and a watch is replaced a second after one.
    const { hosts } = joinHosts(etcd({ service: "half-open", lease: 12_000, endpoints }));
    await expect.poll(() => hosts.isHeld).toBe(true);
    // Those of the entry come at once, the next one at its time.
    await expect.poll(() => seen.filter((what) => what === "lease/keepalive").length).toBeGreaterThan(3);
    expect(seen).toContain("watch");
    stall();
    await expect.poll(() => seen).toContain("watch");
    // None, if the connection stalled between a beat and its echo.
    const beatsBefore = seen.indexOf("watch");
    expect(beatsBefore).toBeLessThan(2);
  });
});

describe("TLS", () => {
  test("units move over TLS with an authority of its own and certificates of clients, and nothing is asked without them", async () => {
    const certificates = new Certificates();
    const files = { "cert-file": certificates.certificate, "key-file": certificates.key };
    const flags = Object.entries({ ...files, "trusted-ca-file": certificates.authority });
    const server = await Etcd.start(
      ["--client-cert-auth", ...flags.flatMap(([name, file]) => [`--${name}`, file])],
      "https",
    );
    onTestFinished(async () => server.remove());
    const join = (): Host => joinHosts(server.exchange({ service: "tls", tls: certificates.client }));
    const [owner, other] = [join(), join()];
    const running = takeRooms(other);
    await owner.hosts.directory.own("room", ["x"]);
    await untilPeers(owner, 1);
    expect(await offer(owner.hosts.exchange, unit("x"))).toEqual([taken]);
    expect([...running]).toEqual(["x"]);
    const { ca } = certificates.client;
    await expect(
      joinHosts(server.exchange({ service: "tls", tls: { ca } })).hosts.check(),
    ).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
    });
    await expect(joinHosts(server.exchange({ service: "tls" })).hosts.check()).rejects.toThrow(
      /see the option "tls"/,
    );
  });
});

describe("several members", () => {
  test("a leader that is killed while units move, and another member that is dead, lose no unit, and none runs twice", async () => {
    const members = await Etcd.cluster(3);
    onTestFinished(async () => void (await Promise.all(members.map(async (member) => member.remove()))));
    const dead = "http://127.0.0.1:1";
    const endpoints = [dead, ...members.map(({ url }) => url)];
    const join = (): Host => joinHosts(etcd({ service: "members", lease: 60_000, endpoints }));
    const owner = join();
    const takers = [join(), join()];
    const running = takers.map((taker) => takeRooms(taker));
    await untilPeers(owner, 2);
    const all = ids(600);
    await owner.hosts.directory.own("room", all);
    const outcomes = new Map<string, Settlement["how"]>();
    const queue = [...all];
    const move = async (): Promise<void> => {
      for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
        const [offered] = owner.hosts.exchange.offer([unit(id)]);
        const { how } = await offered!.settled;
        outcomes.set(id, how);
        if (how !== "taken") queue.unshift(id);
        await new Promise(setImmediate);
      }
    };
    const moving = Promise.all(Array.from({ length: 50 }, move));
    await expect.poll(() => running[0]!.size + running[1]!.size).toBeGreaterThan(100);
    const leads = await Promise.all(members.map(async (member) => member.isLeader()));
    await members[leads.indexOf(true)]!.kill();
    await moving;
    expect([...outcomes.values()]).toEqual(all.map(() => "taken"));
    expect([...running[0]!, ...running[1]!].toSorted()).toEqual(all.toSorted());
    expect([owner, ...takers].flatMap(({ failures }) => failures)).toEqual([]);
  });
});

describe("etcd that cannot keep more", () => {
  test("an etcd that is full refuses offers in words, and takes them when its alarm is disarmed", async () => {
    const server = await Etcd.start([`--quota-backend-bytes=${4 * 1024 * 1024}`]);
    onTestFinished(async () => server.remove());
    const join = (): Host => joinHosts(server.exchange({ service: "full", lease: 60_000 }));
    const [owner, other] = [join(), join()];
    takeRooms(other);
    await owner.hosts.directory.own("room", ["x", "y"]);
    await untilPeers(owner, 1);
    const filling = async (): Promise<string> => {
      for (;;) {
        const value = Buffer.alloc(500_000).toString("base64");
        const error = await server.ask("/v3/kv/put", { key: "eA==", value }).then(() => undefined, String);
        if (error !== undefined) return error;
      }
    };
    expect(await filling()).toMatch(/database space exceeded/);
    expect(await offer(owner.hosts.exchange, unit("x"))).toMatchObject([
      {
        how: "refused",
        code: "ERR_EXCHANGE",
        reason: expect.stringMatching(/its space is used up.*disarm/) as string,
      },
    ]);
    // As an operator does it.
    const { header } = (await server.ask("/v3/kv/range", { key: "eA==", keys_only: true })) as {
      header: { revision: string };
    };
    await server.ask("/v3/kv/compaction", { revision: header.revision, physical: true });
    await server.ask("/v3/maintenance/defragment", {});
    const { alarms } = (await server.ask("/v3/maintenance/alarm", { action: "GET" })) as { alarms: object[] };
    for (const alarm of alarms) await server.ask("/v3/maintenance/alarm", { action: "DEACTIVATE", ...alarm });
    await expect
      .poll(async () => offer(owner.hosts.exchange, unit("x")), { timeout: 20_000 })
      .toEqual([taken]);
  });

  test("units move on after all that etcd has kept of the past was compacted", async () => {
    const server = await Etcd.start();
    onTestFinished(async () => server.remove());
    const join = (): Host => joinHosts(server.exchange({ service: "compacted" }));
    const [owner, other] = [join(), join()];
    const running = takeRooms(other);
    await owner.hosts.directory.own("room", ids(20));
    await untilPeers(owner, 1);
    for (const id of ids(20)) {
      expect(await offer(owner.hosts.exchange, unit(id))).toEqual([taken]);
      const { header } = (await server.ask("/v3/kv/range", { key: "eA==" })) as {
        header: { revision: string };
      };
      await server.ask("/v3/kv/compaction", { revision: header.revision, physical: true });
    }
    expect([...running]).toEqual(ids(20));
  });
});
