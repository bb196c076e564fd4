import { describe, expect, test } from "vitest";
import { Actor } from "../support/actor.js";
import type { Line } from "../support/service.js";

const start = (settings: object = {}): Promise<Actor> => Actor.start("obeys-slots.js", settings);

/** Every successor has one subscriber of the label `a`. */
const taken = { each: { 1: { subscribe: [["a", "s"]] } } };

/** Refusals by their codes. */
const codes = ({ refusals }: Line): string[] => (refusals as { code: string }[]).map(({ code }) => code);

describe("a slot", () => {
  test.each(["value", "function", "later"])(
    "a slot given as a %s before the upgrade is taken by the successor",
    async (as) => {
      const old = await start(taken);
      await old.tell("initiate", "a", { n: 1 }, { as });
      await old.tell("set", "as it is");
      const next = await old.upgrade();
      const data = as === "value" ? { n: 1 } : { data: { n: 1 }, asked: 1, value: "as it is" };
      expect(await next.says("took")).toMatchObject({ label: "a", data, version: 1 });
      const by = { generation: 1, pid: next.pid };
      expect(await old.says("outcome")).toMatchObject({ how: "taken", by });
      await old.leaves();
      expect(old.service.noise).toBe("");
    },
  );

  test.each(["value", "function", "later"])(
    "a slot given as a %s during the drain is taken by the successor",
    async (as) => {
      const old = await start({ each: { ...taken.each, 0: { inDrain: [["a", 1, { as }]] } } });
      const next = await old.upgrade();
      await next.says("took");
      expect(await old.says("outcome")).toMatchObject({ how: "taken" });
      await old.leaves();
    },
  );

  test("slots of one label are taken one after the other, in the order in which they were given", async () => {
    const old = await start({ each: { 1: { subscribe: [["a", "s", "hold"]] } } });
    for (const n of [1, 2, 3]) await old.tell("initiate", "a", n);
    const next = await old.upgrade();
    for (const n of [1, 2, 3]) {
      await next.says("asked", { data: n });
      expect(next.said("asked")).toHaveLength(n);
      await next.tell("decide", "s", "take");
    }
    await old.leaves();
    expect(next.said("took").map(({ data }) => data)).toEqual([1, 2, 3]);
    const fences = next.said("took").map(({ fence }) => fence as number);
    expect(fences).toEqual(fences.toSorted((a, b) => a - b));
    expect(new Set(fences).size).toBe(3);
  });

  test("a slot does not wait for one of another label", async () => {
    const old = await start({ each: { 1: { subscribe: [["b", "s"]] } } });
    await old.tell("initiate", "a", 1, { timeout: 20_000 });
    await old.tell("initiate", "b", 2);
    const next = await old.upgrade();
    await next.says("took", { label: "b" });
    expect(next.said("took")).toHaveLength(1);
    await next.tell("subscribe", "a", "late");
    await next.says("took", { label: "a", by: "late" });
    await old.leaves();
  });

  test("a slot that a subscriber has taken is its own when probation is over, and not before", async () => {
    const old = await start({ ...taken, probation: 2_000 });
    await old.tell("initiate", "a", 1);
    await old.tell("upgrade");
    await old.says("settled");
    await old.says("outcome", { how: "taken" });
    const order = old.service.lines.map(({ event }) => event);
    expect(order.indexOf("took")).toBeLessThan(order.indexOf("settled"));
    // Both are reported in the turn in which it ends.
    const own = old.service.lines.filter(({ pid }) => pid === old.pid).map(({ event }) => event);
    expect(Math.abs(own.indexOf("outcome") - own.indexOf("settled"))).toBe(1);
  });

  test("a slot that no subscriber takes is withdrawn after its timeout, and does not delay the exit", async () => {
    const old = await start();
    await old.tell("initiate", "a", 1, { timeout: 50 });
    const next = await old.upgrade();
    const outcome = await old.says("outcome");
    expect(outcome["how"]).toBe("withdrawn");
    expect(codes(outcome)).toEqual(["ERR_TIMEOUT"]);
    await old.leaves();
    await next.tell("subscribe", "a", "too late");
    expect(await next.tell("complete", "a")).toEqual([]);
  });

  test("a slot is withdrawn at once by a stop without a successor", async () => {
    const old = await start();
    await old.tell("initiate", "a", 1, { timeout: 20_000 });
    await old.tell("initiate", "a", 2, { as: "function" });
    old.kill("SIGTERM");
    expect(codes(await old.says("outcome", { data: 1 }))).toEqual(["ERR_NO_TAKER"]);
    expect(codes(await old.says("outcome", { data: 2 }))).toEqual(["ERR_NO_TAKER"]);
    await old.leaves("stopped");
  });

  test("a slot whose ttl is over before the upgrade is withdrawn", async () => {
    const old = await start(taken);
    await old.tell("initiate", "a", 1, { ttl: 1 });
    await old.tell("initiate", "a", 2, { ttl: 60_000 });
    const next = await old.upgrade();
    expect(codes(await old.says("outcome", { data: 1 }))).toEqual(["ERR_EXPIRED"]);
    await next.says("took", { data: 2 });
    expect(next.said("asked")).toHaveLength(1);
  });

  test("a slot whose outcome is not awaited is taken by the successor, too", async () => {
    const old = await start(taken);
    await old.tell("initiate", "a", 1, { unheard: true });
    const next = await old.upgrade();
    await next.says("took", { data: 1 });
    await old.leaves();
    expect(old.service.noise).toBe("");
  });
});

describe("a subscriber", () => {
  test("a subscriber that comes late gets the slot", async () => {
    const old = await start();
    await old.tell("initiate", "a", { n: 1 });
    const next = await old.upgrade();
    // What has another label has been handed on before.
    await next.tell("subscribe", "b", "b");
    await old.tell("initiate", "b", 2);
    await next.says("took", { label: "b" });
    await next.tell("subscribe", "a", "late");
    expect(await next.says("took", { label: "a" })).toMatchObject({ data: { n: 1 }, by: "late" });
    await old.says("outcome", { label: "a", how: "taken" });
    await old.leaves();
  });

  test("a subscriber that throws is not asked again, and the next one is", async () => {
    const subscribe = [
      ["a", "first", "throw"],
      ["a", "second", "throw"],
      ["a", "third"],
      ["a", "fourth"],
    ];
    const old = await start({ each: { 1: { subscribe } } });
    await old.tell("initiate", "a", 1);
    await old.tell("initiate", "a", 2);
    const next = await old.upgrade();
    await old.says("outcome", { data: 2, how: "taken" });
    expect(next.said("asked").map(({ by, data }) => [data, by])).toEqual([
      [1, "first"],
      [1, "second"],
      [1, "third"],
      [2, "first"],
      [2, "second"],
      [2, "third"],
    ]);
  });

  test("the outcome of a withdrawn slot has the refusal of its subscriber", async () => {
    const old = await start({ each: { 1: { subscribe: [["a", "s", "throw"]] } } });
    await old.tell("initiate", "a", 1, { timeout: 2_000 });
    const next = await old.upgrade();
    const { refusals } = await old.says("outcome", { how: "withdrawn" });
    expect(refusals).toEqual([
      { code: "ERR_MINE", reason: "thrown by the test" },
      { code: "ERR_TIMEOUT", reason: "it was not taken in 2000 ms" },
    ]);
    expect(next.said("asked")).toHaveLength(1);
    await old.leaves();
  });

  test("a subscriber that ends its subscription while it takes a slot takes that, and no other", async () => {
    const old = await start({ each: { 1: { subscribe: [["a", "s", "hold"]] } } });
    await old.tell("initiate", "a", 1);
    await old.tell("initiate", "a", 2, { timeout: 100 });
    const next = await old.upgrade();
    await next.says("asked");
    await next.tell("unsubscribe", "s");
    await next.tell("decide", "s", "take");
    await old.says("outcome", { data: 1, how: "taken" });
    await old.says("outcome", { data: 2, how: "withdrawn" });
    expect(next.said("asked")).toHaveLength(1);
  });

  test("a subscriber that takes too long is aborted, and the slot stays with its owner", async () => {
    const old = await start({ each: { 1: { subscribe: [["a", "s", "hold"]] } } });
    await old.tell("initiate", "a", 1, { timeout: 2_000 });
    const next = await old.upgrade();
    await next.says("asked");
    await next.says("aborted");
    expect(codes(await old.says("outcome", { how: "withdrawn" }))).toEqual(["ERR_TIMEOUT"]);
    await next.tell("decide", "s", "take");
    await old.leaves();
    expect(next.said("took")).toEqual([]);
  });

  test("a subscriber is never offered a slot of its own process", async () => {
    const old = await start(taken);
    const next = await old.upgrade();
    await next.tell("initiate", "a", 1);
    const third = await (await next.confirmed()).upgrade();
    await third.tell("subscribe", "a", "s");
    await third.says("took", { data: 1 });
    expect(next.said("asked")).toEqual([]);
  });
});

describe("complete()", () => {
  test("complete() takes all slots of its label, in order", async () => {
    const old = await start();
    for (const data of [1, 2, 3]) await old.tell("initiate", "a", data);
    const next = await old.upgrade();
    let pieces: { data: unknown }[] = [];
    const complete = async (): Promise<number> => {
      pieces = (await next.tell("complete", "a")) as { data: unknown }[];
      return pieces.length;
    };
    await expect.poll(complete).toBeGreaterThan(0);
    expect(pieces.map(({ data }) => data)).toEqual([1, 2, 3]);
    await old.says("outcome", { data: 3, how: "taken" });
    await old.leaves();
  });

  test("complete() leaves a slot that it cannot use to its owner, with the reason", async () => {
    const old = await start({ each: { 1: { version: 2 } } });
    await old.tell("initiate", "a", 1, { timeout: 3_000 });
    await old.tell("initiate", "b", 1, { timeout: 1 });
    const next = await old.upgrade();
    await old.says("outcome", { label: "b" });
    expect(await next.tell("complete", "a")).toEqual([]);
    expect(codes(await old.says("outcome", { label: "a" }))).toEqual(["ERR_VERSION", "ERR_TIMEOUT"]);
  });
});

describe("peek()", () => {
  test("peek() shows the predecessor's slot before ready(), and takes nothing", async () => {
    const old = await start({ each: { 1: { waits: true, subscribe: [["a", "s"]] } } });
    await old.tell("initiate", "a", { n: 1 }, { as: "function" });
    await old.tell("initiate", "b", { n: 2 });
    const next = await old.upgrade("started");
    expect(await next.tell("peek", "a")).toEqual({ data: { n: 1 }, asked: 1, value: "as it was" });
    await old.tell("set", "later");
    expect(await next.tell("peek", "a")).toEqual({ data: { n: 1 }, asked: 2, value: "later" });
    expect(await next.tell("peek", "b")).toEqual({ n: 2 });
    expect(await next.tell("peek", "c")).toBe("nothing");
    next.kill("SIGUSR2");
    expect(await next.says("took", { label: "a" })).toMatchObject({ data: { asked: 3 } });
  });

  test("peek() rejects with the reason for which the slot cannot be used", async () => {
    const old = await start({ each: { 1: { waits: true, version: 2 } } });
    await old.tell("initiate", "a", 1);
    const next = await old.upgrade("started");
    await expect(next.tell("peek", "a")).rejects.toMatchObject({ code: "ERR_VERSION" });
  });

  test("peek() migrates a slot of another version", async () => {
    const old = await start({ each: { 1: { waits: true, version: 2, migrate: "works" } } });
    await old.tell("initiate", "a", 1);
    const next = await old.upgrade("started");
    expect(await next.tell("peek", "a")).toEqual({ data: 1, migrated: "1 to 2" });
  });

  test.each(["throwing", "map"])(
    "peek() shows nothing if the function of the slot fails (%s), and the owner keeps serving",
    async (as) => {
      const old = await start({ each: { 1: { waits: true } } });
      await old.tell("initiate", "a", 1, { as });
      const next = await old.upgrade("started");
      expect(await next.tell("peek", "a")).toBe("nothing");
      expect(old.said("rejected")).toEqual([]);
      expect(old.service.noise).toBe("");
    },
  );

  test("peek() shows nothing in a process without a predecessor", async () => {
    const only = await start();
    await only.tell("initiate", "a", 1);
    expect(await only.tell("peek", "a")).toBe("nothing");
  });

  test("peek() shows a large slot", async () => {
    const old = await start({ each: { 1: { waits: true } } });
    await old.tell("initiate", "a", "x".repeat(300_000));
    const next = await old.upgrade("started");
    expect(await next.tell("peek", "a")).toBe("x".repeat(300_000));
  });
});

describe("a slot of another version", () => {
  test.each([
    ["newer", 1, 2],
    ["older", 2, 1],
  ])("a slot of a version that is %s is migrated", async (_, from, to) => {
    const subscribe = [["a", "s"]];
    const old = await start({
      each: { 0: { version: from }, 1: { version: to, migrate: "works", subscribe } },
    });
    await old.tell("initiate", "a", { n: 1 });
    const next = await old.upgrade();
    expect(await next.says("took")).toMatchObject({
      data: { data: { n: 1 }, migrated: `${from} to ${to}` },
      version: from,
    });
    await old.says("outcome", { how: "taken" });
  });

  test.each([
    ["of another version without migrate", { version: 2 }, "ERR_VERSION"],
    ["over which migrate throws", { version: 2, migrate: "throws" }, "ERR_MIGRATE"],
    ["over which check throws", { check: "throws" }, "ERR_CHECK"],
    ["that check refuses", { check: false }, "ERR_CHECK"],
  ])("a slot %s is refused, and stays with its owner", async (_, shape, code) => {
    const old = await start({ each: { 1: { ...shape, subscribe: [["a", "s"]] } } });
    await old.tell("initiate", "a", 1, { timeout: 2_000 });
    const next = await old.upgrade();
    const outcome = await old.says("outcome", { how: "withdrawn" });
    expect(codes(outcome)).toEqual([code, "ERR_TIMEOUT"]);
    expect(next.said("asked")).toEqual([]);
    await old.leaves();
  });
});

describe("a slot that cannot be encoded", () => {
  test("a value that cannot be encoded is refused at once, with its path", async () => {
    const old = await start(taken);
    await old.tell("initiate", "a", 1, { as: "mapValue" });
    expect(await old.says("rejected")).toMatchObject({
      code: "ERR_ENCODING",
      message: 'cannot move slot "a": JSON would lose an instance of Map at $.users[0].born',
    });
    await old.upgrade();
    await old.leaves();
  });

  test.each([
    ["map", "ERR_ENCODING"],
    ["throwing", "ERR_MINE"],
  ])("a slot whose function fails (%s) is refused in its process, which exits as usual", async (as, code) => {
    const old = await start(taken);
    await old.tell("initiate", "a", 1, { as });
    await old.tell("initiate", "a", 2, { as, unheard: true });
    await old.tell("initiate", "a", 3);
    const next = await old.upgrade();
    await old.says("rejected", { data: 1, code });
    await next.says("took", { data: 3 });
    await old.leaves();
    await old.service.untilNoise(/HANDOVER_NOT_MOVED.*state does not move/);
    expect(old.said("unhandled")).toEqual([]);
    expect(await old.service.exited).toEqual([0, null]);
  });

  test("a slot whose function does not return is withdrawn after the timeout", async () => {
    const old = await start(taken);
    await old.tell("initiate", "a", 1, { as: "never", timeout: 50 });
    await old.tell("initiate", "a", 2);
    const next = await old.upgrade();
    expect(codes(await old.says("outcome", { data: 1 }))).toEqual(["ERR_TIMEOUT"]);
    await next.says("took", { data: 2 });
    await old.leaves();
  });

  test("a slot beyond maxSize is refused in its process", async () => {
    const old = await start({ each: { 0: { maxSize: 10 }, ...taken.each } });
    await old.tell("initiate", "a", "0123456789");
    expect(await old.says("rejected")).toMatchObject({
      code: "ERR_TOO_LARGE",
      message: 'cannot move slot "a": it has 12 bytes, at most 10 (maxSize)',
    });
    await old.tell("initiate", "a", "01234567");
    const next = await old.upgrade();
    await next.says("took", { data: "01234567" });
  });
});

test("a slot is withdrawn at the end of the drain if the successor does not answer", async () => {
  const each = { 1: { subscribe: [["a", "s", "block"]] } };
  const old = await Actor.start("obeys-slots.js", { each, drainTimeout: 500 });
  await old.tell("initiate", "a", 1);
  await old.tell("initiate", "a", 2);
  await old.tell("upgrade");
  const outcome = await old.says("outcome", { data: 1, how: "withdrawn" });
  expect(outcome["refusals"]).toEqual([{ code: "ERR_TIMEOUT", reason: "the successor does not answer" }]);
  expect(codes(await old.says("outcome", { data: 2 }))).toEqual(["ERR_EXPIRED"]);
  await old.leaves();
});

test("a slot of 100 MB arrives unchanged", async () => {
  const old = await start(taken);
  await old.tell("initiate", "a", 100_000_000, { as: "bytes" });
  const next = await old.upgrade();
  expect(await next.says("took")).toMatchObject({ data: { bytes: 100_000_000, whole: true } });
  await old.says("outcome", { how: "taken" });
  await old.leaves();
});
