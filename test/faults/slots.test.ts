import { describe, expect, test } from "vitest";
import { Actor } from "../support/actor.js";
import type { Line } from "../support/service.js";

/** A successor that dies in these tests is on probation. */
const start = (settings: object = {}): Promise<Actor> =>
  Actor.start("obeys-slots.js", { probation: 20_000, ...settings });

const codes = ({ refusals }: Line): string[] => (refusals as { code: string }[]).map(({ code }) => code);

/** Kills a successor on probation, and waits until the old process serves again. */
async function lose(old: Actor, successor: Actor): Promise<void> {
  const from = old.service.lines.length;
  successor.kill();
  await old.service.until("rollback", { generation: old.generation }, from);
}

/** An old process that still drains, with a slot that waits, and its successor, off probation. */
async function pair(settings: object): Promise<[Actor, Actor]> {
  const old = await Actor.start("obeys-slots.js", settings);
  await old.tell("initiate", "a", { n: 1 }, { timeout: 20_000 });
  await old.tell("upgrade");
  await old.says("settled");
  const next = await old.successor();
  return [old, next];
}

describe("the slots of an owner that is killed", () => {
  test("an owner that is killed before the commit loses its slots, and the successor serves without them", async () => {
    const old = await start({ each: { 1: { waits: true, subscribe: [["a", "s"]] } } });
    await old.tell("initiate", "a", 1);
    const next = await old.upgrade("started");
    old.kill();
    await old.service.exited;
    next.kill("SIGUSR2");
    await next.says("accepting");
    expect(await next.tell("peek", "a")).toBe("nothing");
    expect(next.said("asked")).toEqual([]);
  });

  test("an owner that is killed after its offer leaves the slot to a late subscriber of the successor", async () => {
    const old = await start();
    await old.tell("initiate", "a", 1, { timeout: 20_000 });
    await old.tell("initiate", "b", 2);
    const next = await old.upgrade();
    // What has another label comes with or after it.
    await next.tell("subscribe", "b", "b");
    await next.says("took", { label: "b" });
    old.kill();
    await old.service.exited;
    expect(next.said("took")).toHaveLength(1);
    await next.tell("subscribe", "a", "late");
    await next.says("took", { label: "a", data: 1 });
  });

  test("an owner that is killed leaves a slot that its successor does not take to the generation after it", async () => {
    const old = await start({ each: { 2: { subscribe: [["a", "s"]] } } });
    await old.tell("initiate", "a", { n: 1 }, { timeout: 20_000 });
    await old.tell("initiate", "b", 2);
    const next = await old.upgrade();
    await next.tell("subscribe", "b", "b");
    const { fence } = await next.says("took", { label: "b" });
    old.kill();
    await old.service.exited;
    await next.says("alone");
    const third = await next.upgrade();
    const took = await third.says("took", { label: "a" });
    expect(took["data"]).toEqual({ n: 1 });
    expect(took["fence"]).toBeGreaterThan(fence as number);
  });
});

describe("the slots of a successor that dies", () => {
  test("a successor that dies before it is ready has taken no slot", async () => {
    const old = await start({ each: { 1: { waits: true, subscribe: [["a", "s"]] } } });
    await old.tell("initiate", "a", { n: 1 }, { as: "function" });
    const doomed = await old.upgrade("started");
    doomed.kill();
    await old.says("failed", { code: "ERR_CHILD_EXITED" });
    expect(await old.tell("asked")).toBe(0);
    const next = await old.upgrade("started");
    next.kill("SIGUSR2");
    await next.says("took", { label: "a" });
    expect(old.said("outcome")).toEqual([]);
  });

  test.each([
    ["after it has taken a slot", "take", "took"],
    ["while it takes a slot", "hold", "asked"],
  ])(
    "a successor that dies %s leaves it to a subscriber of the predecessor, with a higher fence",
    async (_, how, event) => {
      const old = await start({ each: { 1: { subscribe: [["a", "s", how]] } } });
      await old.tell("initiate", "a", { n: 1 });
      const next = await old.upgrade();
      const { fence } = await next.says(event);
      await old.tell("subscribe", "a", "own");
      expect(old.said("asked")).toEqual([]);
      await lose(old, next);
      const took = await old.says("took", { by: "own" });
      expect(took["data"]).toEqual({ n: 1 });
      expect(took["fence"]).toBeGreaterThan(fence as number);
      expect(codes(await old.says("outcome", { how: "withdrawn" }))).toEqual(["ERR_ROLLED_BACK"]);
      await old.tell("initiate", "a", { n: 2 });
      const third = await old.upgrade();
      await third.says(event);
      // What it has taken back is its own, and nothing of it to be undone.
      expect(old.said("aborted")).toEqual([]);
    },
  );

  test("a successor that dies leaves many slots to a subscriber of the predecessor, in order and without a warning", async () => {
    const all = Array.from({ length: 20 }, (_, n) => n);
    const old = await start({ each: { 1: { subscribe: [["a", "s"]] } } });
    for (const n of all) await old.tell("initiate", "a", n);
    const next = await old.upgrade();
    await next.says("took", { data: 19 });
    await lose(old, next);
    await old.tell("subscribe", "a", "own");
    await old.says("took", { data: 19 });
    expect(old.said("took").map(({ data }) => data)).toEqual(all);
    expect(old.service.noise).toBe("");
  });

  test("a successor that dies leaves a slot that its predecessor does not take to the next successor, once", async () => {
    const old = await start({ each: { 1: { subscribe: [["a", "s"]] } } });
    await old.tell("initiate", "a", 1);
    await old.tell("initiate", "a", 2);
    const doomed = await old.upgrade();
    const { fence } = await doomed.says("took", { data: 2 });
    await old.tell("subscribe", "a", "own", "throw");
    await lose(old, doomed);
    await old.says("asked", { data: 2 });
    const next = await old.upgrade();
    expect((await next.says("took", { data: 1 }))["fence"]).toBeGreaterThan(fence as number);
    await next.says("took", { data: 2 });
    expect(next.said("took").map(({ data }) => data)).toEqual([1, 2]);
    expect(old.said("outcome")).toEqual([]);
  });

  test("the function of a slot is called again after a successor that has taken it dies", async () => {
    const old = await start({ each: { 1: { subscribe: [["a", "s"]] } } });
    await old.tell("subscribe", "a", "own");
    await old.tell("initiate", "a", 1, { as: "function" });
    const doomed = await old.upgrade();
    await doomed.says("took", { label: "a" });
    await lose(old, doomed);
    await old.tell("set", "after the rollback");
    const next = await old.upgrade();
    const { data } = await next.says("took", { label: "a" });
    expect(data).toEqual({ data: 1, asked: 2, value: "after the rollback" });
    expect(old.said("asked")).toEqual([]);
  });

  test("the function of a slot is called again if a successor dies during the call", async () => {
    const old = await start({ each: { 1: { subscribe: [["a", "s"]] } } });
    await old.tell("initiate", "a", 1, { as: "slow" });
    const doomed = await old.upgrade();
    await expect.poll(async () => old.tell("asked")).toBe(1);
    await lose(old, doomed);
    await old.tell("decide", "slow", "stale");
    const next = await old.upgrade();
    await expect.poll(async () => old.tell("asked")).toBe(2);
    await old.tell("decide", "slow", "fresh");
    expect(await next.says("took", { label: "a" })).toMatchObject({ data: "fresh" });
  });

  test("a successor that dies leaves a slot that it refused to the next successor", async () => {
    const old = await start({ each: { 1: { subscribe: [["a", "s", "throw"]] } } });
    await old.tell("initiate", "a", 1, { timeout: 20_000 });
    const doomed = await old.upgrade();
    await doomed.says("asked");
    await lose(old, doomed);
    expect(await old.tell("asked")).toBe(0);
    const next = await old.upgrade();
    await next.says("asked");
    await next.tell("subscribe", "a", "late");
    await next.says("took", { by: "late", data: 1 });
  });

  test("a slot is not offered again after three successors have died over it", async () => {
    const old = await start({ each: { 1: { subscribe: [["a", "s", "die"]] } } });
    await old.tell("initiate", "a", { n: 1 });
    await old.tell("initiate", "b", 2, { as: "function" });
    const die = async (): Promise<unknown> => {
      const from = old.service.lines.length;
      old.kill("SIGHUP");
      return old.service.until("rollback", { generation: 0 }, from);
    };
    await die();
    await die();
    expect(old.said("outcome")).toEqual([]);
    await die();
    expect(await old.says("outcome")).toMatchObject({ label: "a", how: "failed" });
    await old.service.untilNoise(/HANDOVER_STATE_FAILED.*slot "a" \(7 bytes\)/);
    expect(old.service.lines.filter(({ event }) => event === "asked")).toHaveLength(3);
    const next = await old.upgrade();
    await next.tell("subscribe", "b", "b");
    await next.says("took", { label: "b" });
    expect(next.said("asked").map(({ label }) => label)).toEqual(["b"]);
  });
});

describe("the slots of several generations", () => {
  test("a slot of an older generation that still drains is taken by the newest process", async () => {
    const [old, next] = await pair({});
    await next.tell("initiate", "b", 2);
    const third = await (await next.confirmed()).upgrade();
    await third.tell("subscribe", "a", "s");
    expect((await third.says("took"))["data"]).toEqual({ n: 1 });
    expect(await old.says("outcome")).toMatchObject({ how: "taken", by: { generation: 2, pid: third.pid } });
    await third.tell("subscribe", "b", "s2");
    await third.says("took", { data: 2 });
    await old.leaves();
  });

  test("a slot that the second generation is taking when the third takes over is the third's", async () => {
    const [old, next] = await pair({ each: { 1: { subscribe: [["a", "s", "hold"]] } } });
    const { fence } = await next.says("asked");
    const third = await (await next.confirmed()).upgrade();
    await next.says("aborted");
    await next.tell("decide", "s", "take");
    await third.tell("subscribe", "a", "s");
    expect((await third.says("took"))["fence"]).toBeGreaterThan(fence as number);
    await old.says("outcome", { how: "taken" });
    expect(next.said("took")).toEqual([]);
  });

  test("a slot that a process is taking when its own upgrade fails stays its own", async () => {
    const each = { 1: { subscribe: [["a", "s", "hold"]], role: "throws" } };
    const [old, next] = await pair({ each });
    await next.says("asked");
    expect(await (await next.confirmed()).failsToUpgrade()).toMatchObject({ code: "ERR_ROLE" });
    await next.tell("decide", "s", "take");
    await next.says("took");
    expect(await old.says("outcome")).toMatchObject({ how: "taken", by: { generation: 1 } });
    expect(next.said("asked")).toHaveLength(1);
    expect(next.said("aborted")).toEqual([]);
  });

  test("a slot that the newest process has taken when it dies on probation goes to its predecessor", async () => {
    const each = { 2: { subscribe: [["a", "s"]] } };
    const [old, next] = await pair({ each, probation: 2_000 });
    const third = await (await next.confirmed()).upgrade();
    const { fence } = await third.says("took");
    await lose(next, third);
    await next.tell("subscribe", "a", "s");
    expect((await next.says("took"))["fence"]).toBeGreaterThan(fence as number);
    expect(await old.says("outcome")).toMatchObject({ how: "taken", by: { generation: 1, pid: next.pid } });
    await old.leaves();
  });

  test("the fence of a slot grows with each owner, over five upgrades and a rollback", async () => {
    const subscribe = [["a", "s"]];
    const each = Object.fromEntries([1, 2, 3, 4, 5].map((n) => [n, { subscribe }]));
    let owner = await Actor.start("obeys-slots.js", { each, probation: 1_500 });
    const fences: number[] = [];
    for (let upgrade = 1; upgrade <= 5; upgrade++) {
      await owner.tell("initiate", "a", upgrade);
      if (upgrade === 3) {
        const doomed = await (await owner.confirmed()).upgrade();
        fences.push((await doomed.says("took"))["fence"] as number);
        await lose(owner, doomed);
        fences.push((await owner.says("took", { data: 3 }))["fence"] as number);
        await owner.tell("initiate", "a", upgrade);
      }
      owner = await (await owner.confirmed()).upgrade();
      fences.push((await owner.says("took", { data: upgrade }))["fence"] as number);
    }
    expect(fences).toHaveLength(7);
    expect(fences).toEqual([...new Set(fences)].toSorted((a, b) => a - b));
  });
});
