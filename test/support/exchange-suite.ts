import { expect, test } from "vitest";
import type { Exchange, Parcel, Settlement } from "../../dist/handoff/exchange.js";

/** Two sides of an exchange: what is offered on the one is taken from the other. */
export interface Pair {
  owner: Exchange;
  taker: Exchange;
  /** The taker's side is gone. */
  readonly endTaker: () => void;
}

export function parcel(id: string, fields: Partial<Parcel> = {}): Parcel {
  return {
    kind: "thing",
    label: "a",
    id,
    version: 1,
    body: Buffer.from(`body of ${id}`),
    fds: [],
    ...fields,
  };
}

const taken: Settlement = { how: "taken" };
const withdrawn: Settlement = { how: "withdrawn" };

/** What every exchange promises. */
export function testExchange(open: () => Pair): void {
  test("a parcel that is taken arrives as it was offered", async () => {
    const { owner, taker } = open();
    const seen: Parcel[] = [];
    taker.serve("thing", (one) => {
      seen.push({ ...one, body: Buffer.from(one.body) });
      return "taken";
    });
    const offered = [parcel("1"), parcel("2", { label: "b", version: 7, body: Buffer.alloc(10_000, 0) })];
    expect(await owner.offer(() => offered)).toEqual([taken, taken]);
    expect(seen).toEqual(offered);
  });

  test("each of a batch is settled on its own: taken, refused, without a taker, thrown over", async () => {
    const { owner, taker } = open();
    const why: Record<string, () => "taken" | { refused: string }> = {
      good: () => "taken",
      refused: () => ({ refused: "ERR_VERSION" }),
      coded: () => {
        throw Object.assign(new Error("no"), { code: "ERR_MINE" });
      },
      thrown: () => {
        throw new Error("no");
      },
    };
    taker.serve("thing", ({ id }) => why[id]!());
    const batch = [...Object.keys(why).map((id) => parcel(id)), parcel("1", { kind: "unheard of" })];
    expect(await owner.offer(() => batch)).toEqual([
      taken,
      { how: "refused", code: "ERR_VERSION" },
      { how: "refused", code: "ERR_MINE" },
      { how: "refused", code: "ERR_TAKER" },
      { how: "refused", code: "ERR_NO_TAKER" },
    ]);
  });

  test("batches are taken in the order in which they were offered", async () => {
    const { owner, taker } = open();
    const ids: string[] = [];
    taker.serve("thing", ({ id }) => {
      ids.push(id);
      return "taken";
    });
    const offers = Array.from({ length: 10 }, (_, n) =>
      owner.offer(() => [parcel(`${n}a`), parcel(`${n}b`)]),
    );
    await Promise.all(offers);
    expect(ids).toEqual(Array.from({ length: 10 }, (_, n) => [`${n}a`, `${n}b`]).flat());
  });

  test("an empty batch is settled at once, and uses none of the window", async () => {
    const { owner, taker } = open();
    taker.serve("thing", () => "taken");
    const empty = await Promise.all(Array.from({ length: 10 }, () => owner.offer(() => [])));
    expect(empty.flat()).toEqual([]);
    expect(await owner.offer(() => [parcel("1")])).toEqual([taken]);
  });

  test("a batch is made only when there is room for it, and never more than two are unsettled", async () => {
    const { owner, taker } = open();
    let [made, arrived, most] = [0, 0, 0];
    taker.serve("thing", () => {
      arrived++;
      return "taken";
    });
    const offers = Array.from({ length: 7 }, (_, n) =>
      owner.offer(() => {
        most = Math.max(most, ++made - arrived);
        return [parcel(String(n))];
      }),
    );
    expect(made).toBe(2);
    expect((await Promise.all(offers)).flat()).toEqual(Array.from({ length: 7 }, () => taken));
    expect([made, most]).toEqual([7, 2]);
  });

  test("a batch that cannot be made is its maker's error, and uses none of the window", async () => {
    const { owner, taker } = open();
    taker.serve("thing", () => "taken");
    for (let time = 0; time < 3; time++) {
      const offer = owner.offer(() => {
        throw new Error("nothing to offer");
      });
      await expect(offer).rejects.toThrow("nothing to offer");
    }
    expect(await owner.offer(() => [parcel("1")])).toEqual([taken]);
  });

  test("what is not settled when the taker is gone is withdrawn, and nothing is made any more", async () => {
    const { owner, endTaker } = open();
    let made = 0;
    const offers = Array.from({ length: 4 }, () =>
      owner.offer(() => {
        made++;
        return [parcel("1"), parcel("2")];
      }),
    );
    endTaker();
    expect(await Promise.all(offers)).toEqual([[withdrawn, withdrawn], [withdrawn, withdrawn], [], []]);
    expect(made).toBe(2);
    expect(owner.isOpen).toBe(false);
    expect(await owner.offer(() => [parcel("3")])).toEqual([]);
  });
}
