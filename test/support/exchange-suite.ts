import { describe, expect, test } from "vitest";
import type { Exchange, DeliveryHandler } from "../../dist/exchange/exchange.js";
import type { Parcel, Settlement } from "../../dist/exchange/parcel.js";

/** Two sides of an exchange: what is offered on the one is taken from the other. */
export interface Pair {
  owner: Exchange;
  taker: Exchange;
  /** What was taken is for good. */
  readonly keep: () => void;
  /** The taker's side is gone. */
  readonly endTaker: () => void;
}

export function parcel(id: string, fields: Partial<Parcel> = {}): Parcel {
  return {
    kind: "thing",
    label: "a",
    id,
    version: 1,
    codec: "json",
    body: Buffer.from(`body of ${id}`),
    fds: [],
    ...fields,
  };
}

/** Offers, and waits for what becomes of them. */
export async function offer(exchange: Exchange, ...parcels: Parcel[]): Promise<Settlement[]> {
  return Promise.all(exchange.offer(parcels).map(({ settled }) => settled));
}

export const taken = expect.objectContaining({ how: "taken" }) as Settlement;

/** A taker that never decides, and what it has of each parcel. */
function undecided(): {
  take: DeliveryHandler;
  claims: Map<string, Parameters<DeliveryHandler>[1]>;
  began: () => Promise<void>;
} {
  const claims = new Map<string, Parameters<DeliveryHandler>[1]>();
  return {
    claims,
    take: async (one, claim) => {
      claims.set(one.id, claim);
      return new Promise(() => {});
    },
    began: async () => {
      await expect.poll(() => claims.size).toBeGreaterThan(0);
    },
  };
}

/** What every exchange promises. */
export function testExchange(open: () => Pair): void {
  describe("a parcel", () => {
    test.each([
      ["small", 10],
      ["of 100 kB", 100_000],
      ["of 20 MB", 20_000_000],
      ["empty", 0],
    ])("a parcel that is %s arrives unchanged", async (_, size) => {
      const { owner, taker } = open();
      const seen: Parcel[] = [];
      taker.subscribe("thing", undefined, (one) => {
        seen.push(one);
        return "taken";
      });
      const body = Buffer.alloc(size, "body");
      const offered = [parcel("1"), parcel("2", { label: "b", version: 7, codec: "x", body })];
      expect(await offer(owner, ...offered)).toEqual([taken, taken]);
      expect(seen.map((one) => ({ ...one, body: undefined }))).toEqual(
        offered.map((one) => ({ ...one, body: undefined })),
      );
      expect(seen.every((one, n) => Buffer.compare(one.body, offered[n]!.body) === 0)).toBe(true);
    });

    test("each parcel is settled on its own: taken, refused, without a taker, or with an exception", async () => {
      const { owner, taker } = open();
      const why: Record<string, DeliveryHandler> = {
        good: () => "taken",
        later: async () => "taken" as const,
        refused: () => ({ code: "ERR_VERSION" }),
        explained: async () => ({ code: "ERR_MINE", reason: "not today" }),
        coded: () => fail(Object.assign(new Error("no"), { code: "ERR_MINE" })),
        thrown: () => fail(new Error("no")),
        rejected: async () => fail(new Error("no")),
      };
      taker.subscribe("thing", undefined, (one, claim) => why[one.id]!(one, claim));
      const batch = [...Object.keys(why).map((id) => parcel(id)), parcel("1", { kind: "unheard of" })];
      expect(await offer(owner, ...batch)).toEqual([
        taken,
        taken,
        { how: "refused", code: "ERR_VERSION" },
        { how: "refused", code: "ERR_MINE", reason: "not today" },
        { how: "refused", code: "ERR_MINE", reason: "no" },
        { how: "refused", code: "ERR_TAKER", reason: "no" },
        { how: "refused", code: "ERR_TAKER", reason: "no" },
        { how: "refused", code: "ERR_NO_TAKER" },
      ]);
    });

    test("a parcel goes to the subscriber of its label, else of its kind, and to none after that has ended", async () => {
      const { owner, taker } = open();
      const seen: string[] = [];
      const name =
        (who: string): DeliveryHandler =>
        ({ id }) => {
          seen.push(`${who}:${id}`);
          return "taken";
        };
      const endAny = taker.subscribe("thing", undefined, name("any"));
      const endA = taker.subscribe("thing", "a", name("a"));
      await offer(owner, parcel("1"), parcel("2", { label: "b" }));
      endA();
      await offer(owner, parcel("3"));
      endAny();
      expect(await offer(owner, parcel("4"))).toEqual([{ how: "refused", code: "ERR_NO_TAKER" }]);
      expect(seen).toEqual(["a:1", "any:2", "any:3"]);
    });

    test("a parcel gets a fence above that of every parcel before", async () => {
      const { owner, taker } = open();
      const fences: number[] = [];
      taker.subscribe("thing", undefined, (_, { fence }) => {
        fences.push(fence);
        return "taken";
      });
      await offer(owner, ...Array.from({ length: 100 }, (_, n) => parcel(String(n))));
      await offer(owner, parcel("last"));
      expect(fences).toHaveLength(101);
      expect(fences.every((fence, n) => n === 0 || fence > fences[n - 1]!)).toBe(true);
    });
  });

  test("parcels arrive in the order in which they were offered, however many there are", async () => {
    const { owner, taker } = open();
    const ids: string[] = [];
    taker.subscribe("thing", undefined, ({ id }) => {
      ids.push(id);
      return "taken";
    });
    const all = Array.from({ length: 2_000 }, (_, n) => parcel(String(n), { body: Buffer.alloc(n) }));
    await Promise.all([offer(owner, ...all.slice(0, 1_500)), offer(owner, ...all.slice(1_500))]);
    expect(ids).toEqual(all.map(({ id }) => id));
  });

  describe("a withdrawn parcel", () => {
    test("a withdrawn parcel stays its owner's, with the refusals so far, and its signal aborts", async () => {
      const { owner, taker } = open();
      const { take, claims, began } = undecided();
      taker.subscribe("thing", undefined, take);
      const [offered] = owner.offer([parcel("1")]);
      await began();
      const { signal } = claims.get("1")!;
      claims.get("1")!.note({ code: "ERR_VERSION", reason: "too new" });
      expect(signal.aborted).toBe(false);
      offered!.withdraw();
      expect(await offered!.settled).toEqual({
        how: "withdrawn",
        refusals: [{ code: "ERR_VERSION", reason: "too new" }],
        died: false,
      });
      expect(signal.aborted).toBe(true);
      offered!.withdraw();
    });

    test("a parcel that is withdrawn too late stays taken", async () => {
      const { owner, taker } = open();
      taker.subscribe("thing", undefined, () => "taken");
      const [offered] = owner.offer([parcel("1")]);
      offered!.withdraw();
      expect(await offered!.settled).toEqual(taken);
    });

    test("a parcel that is withdrawn before it is sent is never offered", async () => {
      const { owner, taker } = open();
      let seen = 0;
      taker.subscribe("thing", undefined, () => (seen++, "taken"));
      const [offered] = owner.offer([parcel("1", { body: Buffer.alloc(50_000_000) })]);
      offered!.withdraw();
      expect(await offered!.settled).toMatchObject({ how: "withdrawn", died: false });
      await offer(owner, parcel("2"));
      expect(seen).toBe(1);
    });

    test("a parcel that is taken after it was withdrawn stays its owner's", async () => {
      const { owner, taker } = open();
      let decide!: (verdict: "taken") => void;
      let began = false;
      taker.subscribe("thing", undefined, async () => {
        began = true;
        return new Promise((resolve) => (decide = resolve));
      });
      const [offered] = owner.offer([parcel("1")]);
      await expect.poll(() => began).toBe(true);
      offered!.withdraw();
      expect(await offered!.settled).toMatchObject({ how: "withdrawn" });
      decide("taken");
      taker.subscribe("thing", undefined, () => "taken");
      expect(await offer(owner, parcel("2"))).toEqual([taken]);
    });
  });

  test("the peers of an exchange are known before an offer", async () => {
    const { owner, taker } = open();
    expect(owner.peers("thing")).toEqual([]);
    const endAny = taker.subscribe("thing", undefined, () => "taken");
    const endB = taker.subscribe("other", "b", () => "taken");
    await expect.poll(() => owner.peers("other", "b")).toHaveLength(1);
    expect(owner.peers("thing", "whatever")).toEqual([
      { generation: expect.any(Number) as number, pid: expect.any(Number) as number },
    ]);
    expect(owner.peers("other", "c")).toEqual([]);
    expect(owner.peers("other")).toHaveLength(1);
    endAny();
    endB();
    await expect.poll(() => [...owner.peers("thing"), ...owner.peers("other")]).toEqual([]);
  });

  describe("a taken parcel", () => {
    test("a taken parcel is confirmed by confirm(), and so is each later one", async () => {
      const { owner, taker, keep } = open();
      taker.subscribe("thing", undefined, () => "taken");
      const [first] = (await offer(owner, parcel("1"))) as (Settlement & { how: "taken" })[];
      keep();
      const [second] = (await offer(owner, parcel("2"))) as (Settlement & { how: "taken" })[];
      expect(await Promise.all([first!.confirmed, second!.confirmed])).toEqual([true, true]);
    });

    test("a taken parcel is not confirmed if its taker ends before, and unsettled ones are withdrawn", async () => {
      const { owner, taker, endTaker } = open();
      const { take, began } = undecided();
      taker.subscribe("thing", "b", take);
      taker.subscribe("thing", undefined, () => "taken");
      const [first] = (await offer(owner, parcel("1"))) as (Settlement & { how: "taken" })[];
      const unsettled = offer(owner, parcel("2", { label: "b" }));
      await began();
      endTaker();
      expect(await first!.confirmed).toBe(false);
      expect(await unsettled).toEqual([{ how: "withdrawn", refusals: [], died: true }]);
      expect(owner.peers("thing")).toEqual([]);
      expect(await offer(owner, parcel("3"))).toMatchObject([{ how: "withdrawn" }]);
    });
  });

  describe("a copy of an owner's state", () => {
    test.each([
      ["small", 10],
      ["large", 1_000_000],
    ])("peek() gives a %s copy", async (_, size) => {
      const { owner, taker } = open();
      const copy = parcel("1", { label: "b", body: Buffer.alloc(size, "copy") });
      owner.onQuery("thing", { peek: async (label) => (label === "b" ? copy : undefined) });
      const { body, ...seen } = (await taker.peek("thing", "b"))!;
      expect(seen).toEqual({ ...copy, body: undefined });
      expect(copy.body).toHaveLength(size);
      // toEqual() takes seconds over a megabyte.
      expect(Buffer.compare(body, copy.body)).toBe(0);
      expect(await taker.peek("thing", "c")).toBeUndefined();
      expect(await taker.peek("other", "b")).toBeUndefined();
    });

    test("peek() gives no copy that cannot be made", async () => {
      const { owner, taker } = open();
      owner.onQuery("thing", { peek: async () => Promise.reject(new Error("no")) });
      expect(await taker.peek("thing", "b")).toBeUndefined();
    });

    test("expedite() reports whether the owner has the id", async () => {
      const { owner, taker } = open();
      owner.onQuery("thing", { expedite: (label, id) => label === "a" && id === "1" });
      expect(await taker.expedite("thing", "a", "1")).toBe(true);
      expect(await taker.expedite("thing", "a", "2")).toBe(false);
      expect(await taker.expedite("other", "a", "1")).toBe(false);
    });

    test("peek() and expedite() give nothing when the owner has ended", async () => {
      const { owner, taker, endTaker } = open();
      taker.onQuery("thing", { expedite: () => true });
      endTaker();
      await expect.poll(() => owner.peers("thing")).toEqual([]);
      expect(await owner.expedite("thing", "a", "1")).toBe(false);
      expect(await owner.peek("thing", "a")).toBeUndefined();
    });
  });
}

function fail(error: Error): never {
  throw error;
}
