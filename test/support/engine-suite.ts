import { describe, expect, test } from "vitest";
import type { DeliveryHandler, Exchange } from "../../dist/exchange/exchange.js";
import type { HostExchange } from "../../dist/exchange/hosts.js";
import type { Parcel, Settlement } from "../../dist/exchange/parcel.js";
import { deferred } from "../../dist/util/deferred.js";
import { joinHosts, type Host } from "./hosts.js";
import { offer, parcel, taken } from "./exchange-suite.js";

/** An engine under test. */
export interface TestedEngine {
  /** The option `exchange` of a process of a service that no other test has. */
  readonly exchange: (release?: string) => HostExchange;
  /** Ends the lease of a seat, as the engine sees it. */
  readonly expire: (seat: string) => Promise<void>;
  /** Bytes of the largest state that it takes. */
  readonly maxBody: number;
}

/** A unit's parcel: the label is its kind. */
const unit = (id: string, fields: Partial<Parcel> = {}): Parcel =>
  parcel(id, { kind: "unit", label: "room", ...fields });

/** Takes parcels, and keeps what it has seen. */
function taker(host: Host, kind = "thing", label = "a", result: DeliveryHandler = () => "taken"): Seen[] {
  const seen: Seen[] = [];
  host.hosts.exchange.subscribe(kind, label, (one, delivery) => {
    const { fence, signal, age } = delivery;
    seen.push({ parcel: one, fence, signal, age });
    return result(one, delivery);
  });
  return seen;
}

interface Seen {
  parcel: Parcel;
  fence: number;
  signal: AbortSignal;
  age: number | undefined;
}

async function peersOf(exchange: Exchange, count: number, kind = "thing", label = "a"): Promise<void> {
  await expect.poll(() => exchange.peers(kind, label)).toHaveLength(count);
}

/** What every engine promises, beside what every directory does. `open` is called for each test. */
export function testEngine(open: () => TestedEngine): void {
  const start = (): {
    owner: Host;
    join: (release?: string) => Host;
    engine: TestedEngine;
    exchange: Exchange;
  } => {
    const engine = open();
    const join = (release?: string): Host => joinHosts(engine.exchange(release), release);
    const owner = join();
    return { owner, join, engine, exchange: owner.hosts.exchange };
  };

  describe("a parcel between hosts", () => {
    test.each([
      ["small", 10],
      ["of 100 kB", 100_000],
      ["as large as it may be", Infinity],
      ["empty", 0],
    ])("a parcel that is %s arrives unchanged on another host", async (_, size) => {
      const { exchange, join, engine } = start();
      const seen = taker(join());
      await peersOf(exchange, 1);
      const body = Buffer.alloc(Math.min(size, engine.maxBody), "body");
      expect(await offer(exchange, parcel("1", { version: 7, codec: "x", body }))).toEqual([taken]);
      const [{ parcel: arrived }] = seen as [Seen];
      expect({ ...arrived, body: undefined }).toEqual({
        ...parcel("1"),
        version: 7,
        codec: "x",
        body: undefined,
      });
      expect(Buffer.compare(arrived.body, body)).toBe(0);
    });

    test("each parcel is settled on its own, and a refusal of the only process that takes it is final", async () => {
      const { exchange, join } = start();
      const why: Record<string, DeliveryHandler> = {
        good: () => "taken",
        later: async () => "taken" as const,
        explained: async () => ({ code: "ERR_MINE", reason: "not today" }),
        coded: () => fail(Object.assign(new Error("no"), { code: "ERR_MINE" })),
        rejected: async () => fail(new Error("no")),
      };
      taker(join(), "thing", "a", (one, delivery) => why[one.id]!(one, delivery));
      await peersOf(exchange, 1);
      const batch = [...Object.keys(why).map((id) => parcel(id)), parcel("1", { kind: "unheard of" })];
      // Those that were given to the process are above its fences.
      const fence = expect.any(Number) as number;
      expect(await offer(exchange, ...batch)).toEqual([
        taken,
        taken,
        { how: "refused", code: "ERR_MINE", reason: "not today", fence },
        { how: "refused", code: "ERR_MINE", reason: "no", fence },
        { how: "refused", code: "ERR_TAKER", reason: "no", fence },
        { how: "refused", code: "ERR_NO_TAKER" },
      ]);
    });

    test("a parcel that one process refuses goes to the other one", async () => {
      const { exchange, join } = start();
      const refused = taker(join(), "thing", "a", () => ({ code: "ERR_MINE" }));
      const seen = taker(join());
      await peersOf(exchange, 2);
      const settlements = await offer(exchange, ...Array.from({ length: 20 }, (_, n) => parcel(String(n))));
      expect(settlements).toEqual(Array.from({ length: 20 }, () => taken));
      expect(seen).toHaveLength(20);
      expect(new Set(refused.map((one) => one.parcel.id)).size).toBe(refused.length);
    });

    test("a parcel with a descriptor is refused, and one that is larger than the engine takes", async () => {
      const { exchange, join, engine } = start();
      taker(join());
      await peersOf(exchange, 1);
      const large = parcel("2", { body: Buffer.alloc(engine.maxBody + 1) });
      expect(await offer(exchange, parcel("1", { fds: [0] }), large)).toMatchObject([
        { how: "refused", code: "ERR_DESCRIPTOR" },
        { how: "refused", code: "ERR_TOO_LARGE" },
      ]);
    });

    test("parcels arrive in the order in which they were offered, with growing fences", async () => {
      const { exchange, join } = start();
      const seen = taker(join());
      await peersOf(exchange, 1);
      const all = Array.from({ length: 600 }, (_, n) => parcel(String(n)));
      await Promise.all([offer(exchange, ...all.slice(0, 400)), offer(exchange, ...all.slice(400))]);
      expect(seen.map((one) => one.parcel.id)).toEqual(all.map(({ id }) => id));
    });

    test("of two idle processes each takes a part", async () => {
      const { exchange, join } = start();
      // One that is slow to ask for its part: the other one has no more than its share before it has settled some.
      const both = deferred<void>();
      const take = async (): Promise<"taken"> => {
        if (Math.min(first.length, second.length) > 0) both.resolve();
        await both.promise;
        return "taken";
      };
      const [one, other] = [join(), join()];
      const first = taker(one, "thing", "a", take);
      const second = taker(other, "thing", "a", take);
      await peersOf(exchange, 2);
      // Each has to know of the other one.
      await expect.poll(() => [one, other].every((host) => engineSees(host, 2))).toBe(true);
      await offer(exchange, ...Array.from({ length: 500 }, (_, n) => parcel(String(n))));
      expect(first.length + second.length).toBe(500);
    });
  });

  describe("a unit between hosts", () => {
    test("a unit moves with its ownership, and its fence grows", async () => {
      const { owner, exchange, join } = start();
      const other = join();
      const seen = taker(other, "unit", "room");
      const [owned] = await owner.hosts.directory.own("room", ["x"]);
      await peersOf(exchange, 1, "unit", "room");
      expect(await offer(exchange, unit("x"))).toMatchObject([
        { how: "taken", by: { pid: other.name().pid } },
      ]);
      expect(seen[0]!.fence).toBeGreaterThan((owned as { fence: number }).fence);
      expect(await owner.hosts.directory.where("room", "x")).toEqual(other.name());
    });

    test("a process that has taken a unit gives higher fences than the unit's from then on", async () => {
      const { owner, exchange, join } = start();
      const other = join();
      const seen = taker(other, "unit", "room");
      await owner.hosts.directory.own("room", ["x"]);
      await peersOf(exchange, 1, "unit", "room");
      await offer(exchange, unit("x"));
      expect(other.fences.next()).toBeGreaterThan(seen[0]!.fence);
    });

    test("a unit that another process owns cannot be offered", async () => {
      const { owner, exchange, join } = start();
      const other = join();
      taker(other, "unit", "room");
      await other.hosts.directory.own("room", ["x"]);
      await owner.hosts.directory.own("room", ["y"]);
      await peersOf(exchange, 1, "unit", "room");
      expect(await offer(exchange, unit("x"), unit("y"))).toMatchObject([
        { how: "refused", code: "ERR_RUNNING" },
        { how: "taken" },
      ]);
    });

    test("of twenty processes that would take a unit one takes it", async () => {
      const { owner, exchange, join } = start();
      const all = Array.from({ length: 20 }, () => taker(join(), "unit", "room"));
      await peersOf(exchange, 20, "unit", "room");
      const ids = Array.from({ length: 100 }, (_, n) => String(n));
      await owner.hosts.directory.own("room", ids);
      const settlements = await offer(exchange, ...ids.map((id) => unit(id)));
      expect(settlements.filter(({ how }) => how === "taken")).toHaveLength(100);
      const winners = all.flat().map((one) => one.parcel.id);
      expect(winners.toSorted()).toEqual(ids.toSorted());
    });

    test("a unit that is settled and withdrawn at the same time has exactly one owner", async () => {
      const { owner, exchange, join } = start();
      const other = join();
      const seen = taker(other, "unit", "room", async () => {
        await new Promise(setImmediate);
        return "taken" as const;
      });
      await peersOf(exchange, 1, "unit", "room");
      const ids = Array.from({ length: 200 }, (_, n) => String(n));
      await owner.hosts.directory.own("room", ids);
      const outcomes: [string, Settlement["how"]][] = [];
      for (const id of ids) {
        const [offered] = exchange.offer([unit(id)]);
        const withdrawing = setInterval(() => offered!.withdraw(), 1 + (Number(id) % 9));
        outcomes.push([id, (await offered!.settled).how]);
        clearInterval(withdrawing);
      }
      const running = new Set(seen.filter(({ signal }) => !signal.aborted).map((one) => one.parcel.id));
      expect(outcomes.filter(([id, how]) => (how === "taken") !== running.has(id))).toEqual([]);
      expect(outcomes.map(([, how]) => how)).toEqual(
        outcomes.map(() => expect.stringMatching(/^(taken|withdrawn)$/) as unknown),
      );
    });

    test("an offer outlives its owner", async () => {
      const { owner, exchange, engine, join } = start();
      const refusing = join();
      const waiting = taker(refusing, "unit", "room", async () => new Promise(() => {}));
      await owner.hosts.directory.own("room", ["x"]);
      await peersOf(exchange, 1, "unit", "room");
      exchange.offer([unit("x")]);
      await expect.poll(() => waiting.length).toBe(1);
      await engine.expire(owner.name().seat!);
      await engine.expire(refusing.name().seat!);
      await refusing.hosts.leave();
      const seen = taker(join(), "unit", "room");
      await expect.poll(() => seen.map((one) => one.parcel.id)).toEqual(["x"]);
    });

    test("the units of a process whose lease has ended are given to another one, with higher fences", async () => {
      const { owner, engine, join } = start();
      const other = join();
      const [owned] = await owner.hosts.directory.own("room", ["x"]);
      const orphans: [string, number][] = [];
      other.hosts.directory.orphans("room", (...orphan) => orphans.push(orphan));
      await expect.poll(() => other.hosts.isHeld).toBe(true);
      const order: string[] = [];
      owner.hosts.onLost(() => order.push("lost"));
      await engine.expire(owner.name().seat!);
      await expect.poll(() => orphans.length).toBe(1);
      expect(orphans[0]![0]).toBe("x");
      expect(orphans[0]![1]).toBeGreaterThan((owned as { fence: number }).fence);
    });

    test("a unit that was taken back, and ends, has a higher fence later than the process that died with it", async () => {
      const { owner, engine, join } = start();
      await owner.hosts.directory.own("room", ["x"]);
      await engine.expire(owner.name().seat!);
      // The fence of an orphan is ahead of the clock.
      const second = join();
      const [owned] = await second.hosts.directory.own("room", ["x"]);
      const dying = join();
      const seen = taker(dying, "unit", "room", async () => new Promise(() => {}));
      await peersOf(second.hosts.exchange, 1, "unit", "room");
      const [offered] = second.hosts.exchange.offer([unit("x")]);
      await expect.poll(() => seen).toHaveLength(1);
      await engine.expire(dying.name().seat!);
      await dying.hosts.leave();
      offered!.withdraw();
      const settlement = await offered!.settled;
      expect(settlement).toMatchObject({ how: "withdrawn", fence: expect.any(Number) as number });
      const { fence } = settlement as { fence: number };
      expect(fence).toBeGreaterThan(seen[0]!.fence);
      expect(fence).toBeGreaterThan((owned as { fence: number }).fence);
      expect(second.fences.last).toBeGreaterThanOrEqual(fence);
      second.hosts.directory.disown("room", [{ id: "x", fence }]);
      expect(await second.hosts.directory.where("room", "x")).toBeUndefined();
      const [next] = await join().hosts.directory.own("room", ["x"]);
      expect((next as { fence: number }).fence).toBeGreaterThan(fence);
    });

    test("a unit that was taken back, and is offered again, has a higher fence than the process that died with it", async () => {
      const { owner, exchange, engine, join } = start();
      await owner.hosts.directory.own("room", ["x"]);
      const dying = join();
      const died = taker(dying, "unit", "room", async () => new Promise(() => {}));
      await peersOf(exchange, 1, "unit", "room");
      const [offered] = exchange.offer([unit("x")]);
      await expect.poll(() => died).toHaveLength(1);
      await engine.expire(dying.name().seat!);
      await dying.hosts.leave();
      offered!.withdraw();
      expect(await offered!.settled).toMatchObject({ how: "withdrawn" });
      const seen = taker(join(), "unit", "room");
      await peersOf(exchange, 1, "unit", "room");
      expect(await offer(exchange, unit("x"))).toEqual([taken]);
      expect(seen[0]!.fence).toBeGreaterThan(died[0]!.fence);
    });

    test("of two processes that begin and end a unit again and again each has a fence that no one had before", async () => {
      const { owner, engine, join } = start();
      await owner.hosts.directory.own("room", ["x"]);
      await engine.expire(owner.name().seat!);
      // The fence of an orphan is ahead of the clock.
      const others = [join(), join()];
      const fences: number[] = [];
      const begin = async ({ hosts: { directory } }: Host): Promise<void> => {
        const [result] = await directory.own("room", ["x"]);
        if (!("fence" in result!)) return;
        fences.push(result.fence);
        directory.disown("room", [{ id: "x", fence: result.fence }]);
      };
      await begin(others[0]!);
      const [first] = fences as [number];
      expect(first).toBeGreaterThan(Date.now() * 1024);
      await Promise.all(
        others.map(async (host) => {
          for (let n = 0; n < 50; n++) await begin(host);
        }),
      );
      expect(new Set(fences).size).toBe(fences.length);
      expect(Math.min(...fences)).toBe(first);
    });

    test("a unit with which three processes have died is not taken by a fourth", async () => {
      const { owner, exchange, engine, join } = start();
      await owner.hosts.directory.own("room", ["x"]);
      let offered: ReturnType<Exchange["offer"]>[number] | undefined;
      for (let n = 1; n <= 3; n++) {
        const dying = join();
        const seen = taker(dying, "unit", "room", async () => new Promise(() => {}));
        await peersOf(exchange, 1, "unit", "room");
        [offered] = offered === undefined ? exchange.offer([unit("x")]) : [offered];
        await expect.poll(() => seen).toHaveLength(1);
        await engine.expire(dying.name().seat!);
        await dying.hosts.leave();
        await peersOf(exchange, 0, "unit", "room");
      }
      const died = { how: "withdrawn", refusals: [], died: true, deaths: 3 };
      expect(await offered!.settled).toEqual({ ...died, fence: expect.any(Number) as number });
    });
  });

  describe("a withdrawn parcel between hosts", () => {
    test("a withdrawn parcel stays its owner's, and its signal aborts", async () => {
      const { exchange, join } = start();
      const seen = taker(join(), "thing", "a", async () => new Promise(() => {}));
      await peersOf(exchange, 1);
      const [offered] = exchange.offer([parcel("1")]);
      await expect.poll(() => seen.length).toBe(1);
      offered!.withdraw();
      const fence = seen[0]!.fence + 1;
      expect(await offered!.settled).toEqual({ how: "withdrawn", refusals: [], died: false, fence });
      expect(seen[0]!.signal.aborted).toBe(true);
    });

    test("a parcel that is withdrawn at once is taken or comes back, and never both", async () => {
      const { exchange, join, engine } = start();
      const seen = taker(join());
      await peersOf(exchange, 1);
      const body = Buffer.alloc(Math.min(5_000_000, engine.maxBody));
      const [offered] = exchange.offer([parcel("1", { body })]);
      offered!.withdraw();
      const { how } = await offered!.settled;
      await offer(exchange, parcel("2"));
      const running = seen.filter(({ signal }) => !signal.aborted).map((one) => one.parcel.id);
      expect(running).toEqual(how === "taken" ? ["1", "2"] : ["2"]);
    });

    test("a parcel that is parked waits for a process that starts later", async () => {
      const { owner, exchange, join } = start();
      await expect.poll(() => owner.hosts.isHeld).toBe(true);
      const [offered] = exchange.offer([parcel("1", { ttl: 60_000 }), parcel("2")]);
      offered!.park!();
      expect(await offered!.settled).toEqual({ how: "parked" });
      await owner.hosts.leave();
      const seen = taker(join());
      await expect.poll(() => seen.map((one) => one.parcel.id)).toEqual(["1"]);
    });

    test("a parcel whose time is over is not taken", async () => {
      const { owner, exchange, join } = start();
      await expect.poll(() => owner.hosts.isHeld).toBe(true);
      const [short, long] = exchange.offer([parcel("1", { ttl: 1 }), parcel("2", { ttl: 60_000 })]);
      short!.park!();
      long!.park!();
      await Promise.all([short!.settled, long!.settled]);
      const seen = taker(join());
      await expect.poll(() => seen.map((one) => one.parcel.id)).toEqual(["2"]);
    });
  });

  describe("the processes of a service", () => {
    test("a process is a peer as long as it takes the kind, lives and does not drain", async () => {
      const { exchange, join } = start();
      const [other, third] = [join(), join()];
      await expect.poll(() => third.hosts.isHeld).toBe(true);
      expect(exchange.peers("thing", "a")).toEqual([]);
      const end = other.hosts.exchange.subscribe("thing", "a", () => "taken");
      await peersOf(exchange, 1);
      expect(exchange.peers("thing", "a")).toEqual([other.name()]);
      end();
      await peersOf(exchange, 0);
      other.hosts.exchange.subscribe("thing", "a", () => "taken");
      await peersOf(exchange, 1);
      await other.hosts.announceDrain();
      await peersOf(exchange, 0);
    });

    test("a parcel goes to the newest release at once, and to an older one when that does not take it", async () => {
      const engine = open();
      const owner = joinHosts(engine.exchange("1"), "1");
      const second = joinHosts(engine.exchange("1"), "1");
      const older = taker(second);
      await peersOf(owner.hosts.exchange, 1);
      const newest = joinHosts(engine.exchange("2"), "2");
      const newer = taker(newest, "thing", "a", ({ id }) => (id === "no" ? { code: "ERR_MINE" } : "taken"));
      await peersOf(owner.hosts.exchange, 2);
      // The older one has to learn of the newer one, too.
      await expect.poll(() => second.hosts.status().peers.some(({ release }) => release === "2")).toBe(true);
      const ids = Array.from({ length: 40 }, (_, n) => String(n));
      await offer(owner.hosts.exchange, ...ids.map((id) => parcel(id)));
      expect(newer.length + older.length).toBe(40);
      expect(await offer(owner.hosts.exchange, parcel("no"))).toEqual([taken]);
      expect(older.at(-1)!.parcel.id).toBe("no");
      // The newest one may be slow: after 2 s an older one takes what it has not taken.
      expect(older.filter(({ age }) => age! < 2_000)).toEqual([]);
    });

    test("a role has one holder, and a higher fence with each", async () => {
      const { owner, engine, join } = start();
      const others = Array.from({ length: 5 }, () => join());
      const all = [owner, ...others];
      await expect.poll(() => all.every(({ hosts }) => hosts.isHeld)).toBe(true);
      let last = 0;
      for (let n = 0; n < 10; n++) {
        const fences = await Promise.all(all.map(async ({ hosts }) => hosts.roles.acquire("cron")));
        const holders = all.filter((_, index) => fences[index] !== undefined);
        expect(holders).toHaveLength(1);
        const fence = fences.find((one) => one !== undefined)!;
        expect(fence).toBeGreaterThan(last);
        last = fence;
        await holders[0]!.hosts.roles.release("cron");
      }
      await owner.hosts.roles.acquire("cron");
      await engine.expire(owner.name().seat!);
      await expect.poll(async () => others[0]!.hosts.roles.acquire("cron")).toBeGreaterThan(last);
    });
  });
}

function engineSees(host: Host, peers: number): boolean {
  return host.hosts.status().peers.length === peers;
}

function fail(error: Error): never {
  throw error;
}
