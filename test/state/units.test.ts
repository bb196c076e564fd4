import { describe, expect, test } from "vitest";
import { Actor } from "../support/actor.js";
import { expectOneRunAtATime } from "../support/one-at-a-time.js";
import type { Line } from "../support/service.js";

const start = (settings: object = {}): Promise<Actor> => Actor.start("obeys-units.js", settings);

const ids = (lines: readonly Line[]): unknown[] => lines.map(({ id }) => id);

/** Kills a successor on probation, and waits until the old process serves again. */
async function lose(old: Actor, successor: Actor): Promise<void> {
  successor.kill();
  await old.service.until("rollback", { generation: old.generation });
}

/** What became of the units of a kind, as the process tells when it leaves. */
async function reportOf(actor: Actor, outcome = "upgraded", kind = "room"): Promise<Record<string, unknown>> {
  const { units } = await actor.leaves(outcome);
  return (units as Record<string, Record<string, unknown>>)[kind]!;
}

describe("start()", () => {
  test("start() resolves with the unit that runs already, also for simultaneous calls", async () => {
    const only = await start();
    expect(await only.tell("startTwice", "a")).toBe(true);
    expect(await only.tell("start", "a", { runs: 50 })).toEqual({ runs: 1, from: 0 });
    expect(only.said("run")).toHaveLength(1);
    expect(await only.tell("size")).toBe(1);
  });

  test("start() rejects with the error of run(), and can be tried again", async () => {
    const only = await start({ each: { 0: { run: { a: "throw" } } } });
    await expect(only.tell("start", "a")).rejects.toMatchObject({ code: "ERR_MINE" });
    expect(await only.tell("get", "a")).toBe("nothing");
    expect(await only.tell("size")).toBe(0);
    expect(only.said("abort")).toHaveLength(1);
    await expect(only.tell("start", "a")).rejects.toMatchObject({ code: "ERR_MINE" });
    expect(only.said("run")).toHaveLength(2);
  });

  test("start() is refused in a successor that does not accept yet", async () => {
    const old = await start({ each: { 1: { waits: true } } });
    const next = await old.upgrade("started");
    await expect(next.tell("start", "a")).rejects.toMatchObject({ code: "ERR_NOT_READY" });
    next.kill("SIGUSR2");
    await next.says("accepting");
    expect(await next.tell("start", "a")).toEqual({ runs: 1, from: 1 });
  });

  test("start() is refused in a process that drains or stops, unless the unit runs", async () => {
    const old = await start({ start: ["a"], probation: 20_000, each: { 0: { eligible: { a: false } } } });
    const next = await old.upgrade();
    await expect(old.tell("start", "b")).rejects.toMatchObject({ code: "ERR_ALREADY_UPGRADED" });
    expect(await old.tell("start", "a")).toEqual({ runs: 1, from: 0 });
    await next.tell("start", "c");
    expect(await next.tell("size")).toBe(1);
  });

  test("start() refuses a wrong name", async () => {
    const only = await start();
    await expect(only.tell("start", "")).rejects.toMatchObject({ code: "ERR_OPTION" });
    await expect(only.tell("start", "x".repeat(513))).rejects.toMatchObject({ code: "ERR_OPTION" });
    await expect(only.tell("define", "room")).rejects.toMatchObject({ code: "ERR_OPTION" });
  });
});

describe("release()", () => {
  test("release() ends a unit, which does not move", async () => {
    const old = await start({ start: ["a", "b"] });
    expect(await old.tell("release", "a")).toBe(true);
    expect(await old.tell("release", "a")).toBe(false);
    expect(ids(old.said("abort"))).toEqual(["a"]);
    const next = await old.upgrade();
    await next.says("run", { id: "b" });
    expect(await reportOf(old)).toMatchObject({ moved: 1, stopped: 0 });
    expect(ids(next.said("run"))).toEqual(["b"]);
  });

  test("release() of a frozen unit does nothing, and the unit moves", async () => {
    const old = await start({ start: ["a"], each: { 1: { run: { a: "hold" } } } });
    const next = await old.upgrade();
    await next.says("run");
    expect(await old.tell("get", "a")).toBe("nothing");
    expect(await old.tell("release", "a")).toBe(false);
    await next.tell("goOn", "run a");
    expect(await reportOf(old)).toMatchObject({ moved: 1 });
  });

  test("release() of a unit that is being frozen ends it", async () => {
    const old = await start({ start: ["a", "b"], each: { 0: { freeze: { a: "hold" } }, 1: {} } });
    const next = await old.upgrade();
    await old.says("freeze", { id: "a" });
    expect(await old.tell("release", "a")).toBe(true);
    await old.tell("goOn", "freeze a");
    expect(await reportOf(old)).toMatchObject({ moved: 1, stopped: 0 });
    expect(ids(next.said("run"))).toEqual(["b"]);
    expect(old.said("stop")).toEqual([]);
  });
});

describe("the units of an upgrade", () => {
  test("an upgrade moves units with their state, and each ends in the predecessor before it runs in the successor", async () => {
    const old = await start();
    for (const id of ["a", "b", "c"]) await old.tell("start", id, { of: id });
    const next = await old.upgrade();
    expect(await reportOf(old)).toMatchObject({ moved: 3, failed: 0, stopped: 0, peers: 1, failures: {} });
    for (const id of ["a", "b", "c"])
      expect(await next.tell("get", id)).toEqual({ of: id, runs: 2, from: 1 });
    expect(await next.tell("size")).toBe(3);
    expectOneRunAtATime(old.service.lines);
    expect(old.said("stop")).toEqual([]);
    expect(await old.service.exited).toEqual([0, null]);
    expect(old.service.noise).toBe("");
  });

  test("units move in every upgrade", async () => {
    const first = await start({ start: ["a"] });
    let actor = first;
    for (let generation = 1; generation <= 3; generation++) actor = await (await actor.confirmed()).upgrade();
    await actor.says("run");
    expect(await actor.tell("get", "a")).toEqual({ runs: 4, from: 3 });
    expectOneRunAtATime(first.service.lines);
  });

  test("units move in the order of their priority, then of their start", async () => {
    const each = { 0: { priority: { b: 2, d: 2, c: -1 } } };
    const old = await start({ start: ["a", "b", "c", "d"], each, drain: { concurrency: 1 } });
    const next = await old.upgrade();
    await reportOf(old);
    expect(ids(next.said("run"))).toEqual(["b", "d", "a", "c"]);
  });

  test("units that are not eligible, not accepted, or over which a question throws are stopped", async () => {
    const each = {
      0: { eligible: { no: false, odd: "throw" } },
      1: { accept: { refused: false, thrown: "throw" } },
    };
    const old = await start({ start: ["yes", "no", "odd", "refused", "thrown"], each });
    const next = await old.upgrade();
    expect(await reportOf(old)).toMatchObject({
      moved: 1,
      stopped: 4,
      failed: 0,
      failures: { ERR_NOT_ELIGIBLE: 1, ERR_UNIT: 1, ERR_REFUSED: 1, ERR_MINE: 1 },
    });
    expect(ids(next.said("run"))).toEqual(["yes"]);
    expect(new Set(ids(old.said("stop")))).toEqual(new Set(["no", "odd", "refused", "thrown"]));
    expect(old.said("stop").every(({ runs }) => runs === 1)).toBe(true);
    expectOneRunAtATime(old.service.lines);
  });

  test("no more units move at a time than `concurrency`", async () => {
    const start10 = "abcdefghij".split("");
    const each = { 1: { run: { "*": "hold" } } };
    const old = await start({ start: start10, each, drain: { concurrency: 3 } });
    const next = await old.upgrade();
    for (const [n, id] of start10.entries()) {
      await next.says("run", { id });
      expect(old.said("freeze").length).toBeLessThanOrEqual(n + 3);
      await next.tell("goOn", `run ${id}`);
    }
    expect(await reportOf(old)).toMatchObject({ moved: 10 });
  });

  test("a unit that is being started moves when it runs", async () => {
    // It is not asked whether it may move before it can be.
    const old = await start({ each: { 0: { run: { a: "hold" }, eligible: {} } } });
    const started = old.tell("start", "a");
    await old.says("run");
    const next = await old.upgrade();
    expect(old.said("freeze")).toEqual([]);
    await old.tell("goOn", "run a");
    expect(await started).toEqual({ runs: 1, from: 0 });
    await next.says("run", { runs: 2 });
    expect(await reportOf(old)).toMatchObject({ moved: 1, failures: {} });
  });

  test("a unit that the successor takes only from an age on moves when it is old enough", async () => {
    const old = await start({ start: ["a", "b"], each: { 1: { accept: "older" } } });
    const next = await old.upgrade();
    expect(await reportOf(old)).toMatchObject({ moved: 2, stopped: 0, failures: {} });
    expect(new Set(ids(next.said("run")))).toEqual(new Set(["a", "b"]));
    expectOneRunAtATime(old.service.lines);
  });

  test("a drain gives up after `giveUpAfter` failures in a row, and freezes no more units on probation", async () => {
    const all = ["a", "b", "c", "d", "e"];
    const each = { 1: { accept: { "*": false } } };
    const old = await start({ start: all, each, drain: { concurrency: 1, giveUpAfter: 2 } });
    await old.tell("upgrade");
    await old.says("settled");
    expect(await reportOf(old)).toMatchObject({ moved: 0, stopped: 5, failures: { ERR_REFUSED: 2 } });
    const order = old.service.lines.map(({ event, id }) => (event === "freeze" ? id : event));
    expect(order.indexOf("b")).toBeLessThan(order.indexOf("settled"));
    expect(order.indexOf("c")).toBeGreaterThan(order.indexOf("settled"));
  });

  test("a drain does not give up if the failures are not in a row", async () => {
    const each = { 1: { accept: { b: false, d: false } } };
    const all = ["a", "b", "c", "d", "e"];
    const old = await start({ start: all, each, drain: { concurrency: 1, giveUpAfter: 2 } });
    await old.upgrade();
    expect(await reportOf(old)).toMatchObject({ moved: 3, stopped: 2, failures: { ERR_REFUSED: 2 } });
  });

  test.each([
    ["if the drain is disabled", { drain: { enabled: false } }, 1],
    ["if the successor does not have their kind", { each: { 1: { kinds: [] } } }, 0],
  ])("units are stopped after probation %s", async (_, settings, peers) => {
    const old = await start({ start: ["a", "b"], ...settings });
    await old.tell("upgrade");
    await old.says("settled");
    expect(await reportOf(old)).toMatchObject({ moved: 0, stopped: 2, peers, failures: {} });
    const order = old.service.lines.map(({ event }) => event);
    expect(order.indexOf("freeze")).toBeGreaterThan(order.indexOf("settled"));
    expect(old.said("stop").map(({ runs }) => runs)).toEqual([1, 1]);
  });

  test("units of two kinds move independently", async () => {
    const each = { 1: { accept: { refused: false } } };
    const old = await start({ kinds: ["room", "session"], each });
    await old.tell("start", "a", {}, "room");
    await old.tell("start", "a", {}, "session");
    await old.tell("start", "refused", {}, "session");
    const next = await old.upgrade();
    expect(await reportOf(old, "upgraded", "room")).toMatchObject({ moved: 1, stopped: 0 });
    expect(await reportOf(old, "upgraded", "session")).toMatchObject({ moved: 1, stopped: 1 });
    expect(next.said("run").map(({ kind }) => kind)).toEqual(["room", "session"]);
  });

  test("a drain without units reports none, and takes no time", async () => {
    const old = await start();
    await old.upgrade();
    expect(await reportOf(old)).toMatchObject({ moved: 0, failed: 0, stopped: 0, failures: {} });
  });
});

describe("a unit", () => {
  const drain = { unitTimeout: 1_500 };

  test.each([
    ["cannot be frozen", { freeze: { a: "throw" } }, "ERR_FREEZE"],
    ["does not freeze in time", { freeze: { a: "hang" } }, "ERR_TIMEOUT"],
  ])("a unit that %s is stopped without its state, and asked only once", async (_, own, code) => {
    const old = await start({ start: ["a", "b"], each: { 0: own }, drain });
    const next = await old.upgrade();
    expect(await reportOf(old)).toMatchObject({ moved: 1, stopped: 1, failures: { [code]: 1 } });
    expect(ids(next.said("run"))).toEqual(["b"]);
    const [stopped] = old.said("stop");
    expect(stopped).toMatchObject({ id: "a" });
    expect(stopped).not.toHaveProperty("runs");
    expect(old.said("freeze").filter(({ id }) => id === "a")).toHaveLength(1);
    expect(old.said("abort").filter(({ id }) => id === "a")).toHaveLength(1);
    expect(await old.service.exited).toEqual([0, null]);
  });

  test("a unit moves if freeze() returns a thenable", async () => {
    const old = await start({ start: ["a"], each: { 0: { freeze: { a: "thenable" } } }, drain });
    const next = await old.upgrade();
    await next.says("run", { id: "a", runs: 2 });
    expect(await reportOf(old)).toMatchObject({ moved: 1, failures: {} });
  });

  test("a unit whose frozen state cannot be encoded is stopped with it", async () => {
    const old = await start({ start: ["a"], each: { 0: { freeze: { a: "map" } } }, drain });
    await old.upgrade();
    expect(await reportOf(old)).toMatchObject({ moved: 0, stopped: 1, failures: { ERR_ENCODING: 1 } });
    expect(ids(old.said("stop"))).toEqual(["a"]);
    expect(old.said("unhandled")).toEqual([]);
  });

  test.each([
    ["throws in the successor", "throw", "ERR_MINE"],
    ["does not run in the successor in time", "hang", "ERR_TIMEOUT"],
  ])("a unit that %s ends there, and is stopped in the predecessor", async (_, how, code) => {
    const old = await start({ start: ["a", "b"], each: { 1: { run: { a: how } } }, drain });
    const next = await old.upgrade();
    await next.says("abort", { id: "a" });
    expect(await reportOf(old)).toMatchObject({ moved: 1, stopped: 1, failures: { [code]: 1 } });
    expect(old.said("stop")).toMatchObject([{ id: "a", runs: 1 }]);
    // It may have written with its fence.
    const { fence } = next.said("run").find(({ id }) => id === "a")!;
    expect(old.said("stop")[0]!["fence"]).toBeGreaterThan(fence as number);
    expect(await next.tell("get", "a")).toBe("nothing");
    expect(await next.tell("size")).toBe(1);
    expectOneRunAtATime(old.service.lines);
  });

  test("a unit that has another version in the successor is stopped in the predecessor", async () => {
    const old = await start({ start: ["a"], each: { 1: { version: 2 } } });
    await old.upgrade();
    expect(await reportOf(old)).toMatchObject({ moved: 0, stopped: 1, failures: { ERR_VERSION: 1 } });
    expect(old.said("stop")).toMatchObject([{ id: "a", runs: 1 }]);
  });

  test("a unit that check() refuses in the successor is stopped in the predecessor with its state", async () => {
    const old = await start({ each: { 0: { check: "a" }, 1: { check: "a" } } });
    await old.tell("start", "a", { of: "a" });
    await old.upgrade();
    const failures = { ERR_CHECK: 1 };
    expect(await reportOf(old)).toMatchObject({ moved: 0, stopped: 1, failed: 0, failures });
    expect(old.said("stop")).toMatchObject([{ id: "a", runs: 1 }]);
  });

  test.each([
    ["cannot be stopped", "throw", "ERR_MINE"],
    ["does not stop in time", "hang", "ERR_TIMEOUT"],
  ])("a unit that %s is counted as failed, and does not delay the exit", async (_, how, code) => {
    const old = await start({ start: ["a", "b"], each: { 0: { stop: { a: how } } }, drain });
    old.kill("SIGTERM");
    const report = await reportOf(old, "stopped");
    expect(report).toMatchObject({ moved: 0, stopped: 1, failed: 1, failures: { [code]: 1 } });
    expect(new Set(ids(old.said("abort")))).toEqual(new Set(["a", "b"]));
    expect(await old.service.exited).toEqual([0, null]);
  });
});

describe("start() of a unit that still runs in the predecessor", () => {
  test("start() waits for a unit that still runs in the predecessor, and gets its state", async () => {
    const each = { 1: { run: { a: "hold" } } };
    const old = await start({ start: ["a", "b"], each, drain: { concurrency: 1 } });
    const next = await old.upgrade();
    await next.says("run", { id: "a" });
    const started = next.tell("start", "b", { runs: 100 });
    await next.tell("goOn", "run a");
    expect(await started).toEqual({ runs: 2, from: 1 });
    expect(await reportOf(old)).toMatchObject({ moved: 2 });
    expectOneRunAtATime(old.service.lines);
  });

  test("start() moves a unit that still runs in the predecessor before the others", async () => {
    const all = "abcdefghij".split("");
    const each = { 1: { run: { a: "hold" } } };
    const old = await start({ start: all, each, drain: { concurrency: 1 } });
    const next = await old.upgrade();
    await next.says("run", { id: "a" });
    const started = next.tell("start", "j", { runs: 100 });
    await next.tell("goOn", "run a");
    expect(await started).toEqual({ runs: 2, from: 1 });
    await reportOf(old);
    expect(ids(next.said("run"))).toEqual("ajbcdefghi".split(""));
  });

  test("start() is refused while the predecessor keeps the unit, and starts it anew when it was stopped there", async () => {
    const settings = { start: ["a"], probation: 3_000, drain: { unitTimeout: 100 } };
    const old = await start({ ...settings, each: { 0: { eligible: { a: false } } } });
    const next = await old.upgrade();
    await expect(next.tell("start", "a", { runs: 100 })).rejects.toMatchObject({ code: "ERR_UNIT" });
    expect(next.said("run")).toEqual([]);
    await old.leaves();
    expect(await next.tell("start", "a", { runs: 100 })).toEqual({ runs: 101, from: 1 });
    expectOneRunAtATime(old.service.lines);
  });

  test("start() rejects if run() of a moving unit throws, and does not start it anew", async () => {
    const each = { 1: { run: { a: "throw" } } };
    const old = await start({ start: ["a"], probation: 3_000, each, drain: { unitTimeout: 100 } });
    const next = await old.upgrade();
    await expect(next.tell("start", "a", { runs: 100 })).rejects.toMatchObject({ code: "ERR_UNIT" });
    expect(next.said("run").map(({ runs }) => runs)).toEqual([2]);
  });
});

describe("the units of a successor that is killed", () => {
  const probation = 20_000;

  test("a successor that is killed on probation gives all units back, and they run again as they were frozen", async () => {
    const all = ["a", "b", "c"];
    const old = await start({ start: all, probation });
    const doomed = await old.upgrade();
    for (const id of all) await doomed.says("run", { id, runs: 2 });
    await lose(old, doomed);
    for (const id of all) {
      const { fence } = await old.says("run", { id, runs: 2 });
      expect(fence).toBeGreaterThan((await doomed.says("run", { id }))["fence"] as number);
    }
    expect(await old.tell("size")).toBe(3);
    expect(old.said("run")).toHaveLength(6);
    const before = old.service.lines.filter(({ pid }) => pid !== doomed.pid);
    expectOneRunAtATime(before);
    const next = await old.upgrade();
    for (const id of all) {
      const { fence } = await next.says("run", { id, runs: 3 });
      expect(fence).toBeGreaterThan(doomed.said("run").find((line) => line["id"] === id)!["fence"] as number);
    }
    expect(old.said("stop")).toEqual([]);
    expect(old.service.noise).toBe("");
  });

  test("a successor that is killed on probation after the drain gives back the units that have moved", async () => {
    const each = { 0: { eligible: { b: false } } };
    const old = await start({ start: ["a", "b"], probation, drainTimeout: 1_500, each });
    const doomed = await old.upgrade();
    expect(await old.tell("drain")).toMatchObject({ moved: 1, stopped: 1 });
    const { fence } = await doomed.says("run", { id: "a", runs: 2 });
    await lose(old, doomed);
    expect((await old.says("run", { id: "a", runs: 2 }))["fence"]).toBeGreaterThan(fence as number);
    expect(await old.tell("get", "b")).toBe("nothing");
    expect(await old.tell("size")).toBe(1);
    const next = await old.upgrade();
    await next.says("run", { id: "a", runs: 3 });
  });

  test.each([
    ["has confirmed late", "SIGCONT", 5_000, { moved: 1, failed: 0 }],
    ["has not confirmed", "SIGSTOP", 2_000, { moved: 0, failed: 1 }],
  ] as const)(
    "a successor that is killed on probation after the drain gives back a unit that it %s",
    async (_, signal, drainTimeout, told) => {
      const each = { 0: { eligible: { b: false } }, 1: { run: { a: "pause" } } };
      const old = await start({ start: ["a", "b"], probation, drainTimeout, each });
      const doomed = await old.upgrade("run");
      await old.says("stop", { id: "b" });
      doomed.kill(signal);
      expect(await old.tell("drain")).toMatchObject({ ...told, stopped: 1 });
      await lose(old, doomed);
      await old.says("run", { id: "a", runs: 2 });
      expect(await old.tell("size")).toBe(1);
    },
  );

  test("a successor that is killed at the end of the drain gives back the units without an answer", async () => {
    const each = { 0: { eligible: { b: false } }, 1: { run: { a: "pause" } } };
    const old = await start({ start: ["a", "b"], probation, drainTimeout: 4_000, each });
    const doomed = await old.upgrade("run");
    await old.says("stop", { id: "b" });
    await lose(old, doomed);
    await old.says("run", { id: "a", runs: 2 });
    expect(ids(old.said("stop"))).toEqual(["b"]);
  });

  test("a successor that is killed gives back units that its predecessor would not accept from another process", async () => {
    const old = await start({ probation, each: { 0: { check: "a" } } });
    await old.tell("start", "a", { of: "a" });
    const doomed = await old.upgrade();
    await doomed.says("run", { id: "a", runs: 2 });
    await lose(old, doomed);
    await old.says("run", { id: "a", runs: 2 });
    expect(old.service.noise).toBe("");
  });

  test("a successor that is killed during the move gives back the units that it has, and those that it was taking", async () => {
    const all = ["a", "b", "c", "d"];
    const each = { 1: { run: { c: "die" } } };
    const old = await start({ start: all, probation, each, drain: { concurrency: 1 } });
    const from = old.service.lines.length;
    old.kill("SIGHUP");
    await old.service.until("rollback", {}, from);
    for (const id of ["a", "b", "c"]) await old.says("run", { id, runs: 2 });
    expect(await old.tell("size")).toBe(4);
    expect(await old.tell("get", "d")).toEqual({ runs: 1, from: 0 });
    expect(ids(old.said("run"))).toHaveLength(7);
    expect(ids(old.said("abort"))).toEqual(["a", "b", "c"]);
    expect(old.said("unhandled")).toEqual([]);
  });

  test("a successor that is killed while units freeze leaves them running", async () => {
    const each = { 0: { freeze: { a: "hold", b: "hang" } } };
    const old = await start({ start: ["a", "b"], probation, each });
    const doomed = await old.upgrade();
    await old.says("freeze", { id: "a" });
    await lose(old, doomed);
    expect(await old.tell("get", "b")).toEqual({ runs: 1, from: 0 });
    await old.tell("goOn", "freeze a");
    await old.says("run", { id: "a", runs: 2 });
    expect(await old.tell("size")).toBe(2);
    expectOneRunAtATime(old.service.lines);
  });

  test("a unit is not offered again after three successors have died over it", async () => {
    const each = { 1: { run: { a: "die" } } };
    const old = await start({ start: ["a", "b"], each, probation: 3_000, drain: { concurrency: 1 } });
    for (let death = 1; death <= 3; death++) {
      const from = old.service.lines.length;
      old.kill("SIGHUP");
      await old.service.until("rollback", {}, from);
      await old.says("run", { id: "a", runs: death + 1 });
    }
    await old.service.untilNoise(/HANDOVER_STATE_FAILED.*unit room "a" \(\d+ bytes\)/);
    const next = await old.upgrade();
    await next.says("run", { id: "b" });
    expect(await reportOf(old)).toMatchObject({ moved: 1, failed: 1 });
    expect(ids(next.said("run"))).toEqual(["b"]);
    expect(old.said("stop")).toMatchObject([{ id: "a", runs: 4 }]);
  });
});

describe("the units of several generations", () => {
  test("units of an older generation move to the newest one, also those that the one between was starting", async () => {
    const each = { 1: { run: { a: "hold" } } };
    const old = await start({ start: ["a", "b"], each, drain: { concurrency: 1, unitTimeout: 10_000 } });
    const next = await old.upgrade();
    await next.says("run", { id: "a" });
    const third = await (await next.confirmed()).upgrade();
    await third.says("run", { id: "a", runs: 2 });
    await third.says("run", { id: "b", runs: 2 });
    expect(ids(next.said("abort"))).toEqual(["a"]);
    expect(await reportOf(old)).toMatchObject({ moved: 2 });
    expectOneRunAtATime(old.service.lines);
  });

  test("units of the newest generation go to its predecessor when it dies", async () => {
    const each = { 1: { run: { a: "hold" } } };
    const settings = { start: ["a"], each, probation: 2_000, drain: { unitTimeout: 20_000 } };
    const old = await start(settings);
    const next = await old.upgrade();
    await next.says("run", { id: "a" });
    const third = await (await next.confirmed()).upgrade();
    await third.says("run", { id: "a", runs: 2 });
    const from = next.service.lines.length;
    third.kill();
    await next.says("run", { id: "a", runs: 2 }, from);
    await next.tell("goOn", "run a");
    expect(await reportOf(old)).toMatchObject({ moved: 1 });
    expect(await next.tell("get", "a")).toEqual({ runs: 2, from: 1 });
  });
});

describe("stop()", () => {
  test("stop() stops all units, with their state", async () => {
    const only = await start({ start: ["a", "b", "c"] });
    only.kill("SIGTERM");
    expect(await reportOf(only, "stopped")).toMatchObject({ moved: 0, failed: 0, stopped: 3, peers: 0 });
    expect(only.said("stop").map(({ id, runs }) => [id, runs])).toEqual([
      ["a", 1],
      ["b", 1],
      ["c", 1],
    ]);
    expect(ids(only.said("abort"))).toEqual(["a", "b", "c"]);
  });

  test("stop() ends units without a `stop`, and freezes none of them", async () => {
    const only = await start({ start: ["a"], each: { 0: { stop: false } } });
    only.kill("SIGTERM");
    expect(await reportOf(only, "stopped")).toMatchObject({ stopped: 1 });
    expect(only.said("freeze")).toEqual([]);
    expect(ids(only.said("abort"))).toEqual(["a"]);
  });

  test("stop() takes no longer than drainTimeout", async () => {
    const each = { 0: { stop: { a: "hang" }, freeze: { b: "hang" } } };
    const only = await start({
      start: ["a", "b", "c"],
      each,
      drain: { unitTimeout: 20_000 },
      drainTimeout: 200,
    });
    only.kill("SIGTERM");
    const { ms, stopped, failed } = await reportOf(only, "stopped");
    expect([stopped, failed]).toEqual([1, 2]);
    // A single unit may take as long as that.
    expect(ms).toBeLessThan(20_000);
  });
});

test("a drain with units that hang takes no longer than drainTimeout", async () => {
  const each = { 0: { stop: { "*": "hang" } }, 1: { run: { "*": "hang" } } };
  const drain = { unitTimeout: 100 };
  const old = await start({ start: ["a", "b"], each, drain, drainTimeout: 1_000 });
  await old.upgrade();
  expect(await reportOf(old)).toMatchObject({ moved: 0, failed: 2, failures: { ERR_TIMEOUT: 4 } });
});

test("units fail if the successor does not confirm them, and the others are stopped", async () => {
  const each = { 1: { run: { "*": "block" } } };
  const drain = { concurrency: 2, unitTimeout: 300 };
  const old = await start({ start: ["a", "b", "c", "d", "e"], each, drain, drainTimeout: 1_500 });
  await old.upgrade();
  const failures = { ERR_TIMEOUT: 2 };
  expect(await reportOf(old)).toMatchObject({ moved: 0, failed: 2, stopped: 3, failures });
  expect(new Set(ids(old.said("stop")))).toEqual(new Set(["c", "d", "e"]));
  expect(await old.service.exited).toEqual([0, null]);
});

test("the drain's own timeout ends the move, and the other units are stopped", async () => {
  const each = { 1: { run: { "*": "hang" } } };
  const drain = { timeout: 300, concurrency: 1, unitTimeout: 200, giveUpAfter: 100 };
  const old = await start({ start: "abcdefghij".split(""), each, drain });
  await old.upgrade();
  const { failures, ...report } = await reportOf(old);
  expect(report).toMatchObject({ moved: 0, stopped: 10 });
  expect((failures as { ERR_TIMEOUT: number }).ERR_TIMEOUT).toBeLessThan(10);
});

test("units that the successor does not take in time are stopped within the drain", async () => {
  const each = { 1: { run: { "*": "hang" } } };
  const drain = { concurrency: 1, unitTimeout: 500, giveUpAfter: 100 };
  const old = await start({ start: "abcdefghij".split(""), each, drain, drainTimeout: 2_000 });
  await old.upgrade();
  expect(await reportOf(old)).toMatchObject({ moved: 0, stopped: 10, failed: 0 });
});

test("drain() stops the running units, and others can be started after it", async () => {
  const only = await start({ start: ["a", "b"] });
  expect(await only.tell("drain")).toMatchObject({ moved: 0, stopped: 2, peers: 0 });
  expect(await only.tell("size")).toBe(0);
  expect(await only.tell("start", "a")).toEqual({ runs: 1, from: 0 });
  await expect(only.tell("drain", { nonsense: 1 })).rejects.toMatchObject({ code: "ERR_OPTION" });
  const next = await only.upgrade();
  await next.says("run", { id: "a" });
  expect(await reportOf(only)).toMatchObject({ moved: 1, stopped: 0 });
});

test("units that are started during drain() move in an upgrade", async () => {
  const old = await start({ start: ["a"], each: { 0: { stop: { a: "hold" } } } });
  const draining = old.tell("drain");
  await old.says("stop", { id: "a" });
  await old.tell("start", "b");
  const next = await old.upgrade();
  await old.tell("goOn", "stop a");
  expect(await draining).toMatchObject({ moved: 0, stopped: 1 });
  expect(await reportOf(old)).toMatchObject({ moved: 1, stopped: 0 });
  expect(ids(next.said("run"))).toEqual(["b"]);
  expect(ids(old.said("stop"))).toEqual(["a"]);
});

test("units move in the time that drain() has left", async () => {
  const old = await start({ start: ["a"], drainTimeout: 3_000, each: { 0: { stop: { a: "hang" } } } });
  const draining = old.tell("drain", { unitTimeout: 2_000 });
  await old.says("stop", { id: "a" });
  await old.tell("start", "b");
  const next = await old.upgrade();
  expect(await draining).toMatchObject({ moved: 0, failed: 1 });
  expect(await reportOf(old)).toMatchObject({ moved: 1, stopped: 0 });
  expect(ids(next.said("run"))).toEqual(["b"]);
});

test("10,000 units, every fifth of them refused, run in one process each", async () => {
  const old = await start({ quiet: true, each: { 1: { accept: "four of five" } } });
  await old.tell("startMany", 10_000);
  const next = await old.upgrade();
  expect(await reportOf(old)).toMatchObject({
    moved: 8_000,
    stopped: 2_000,
    failed: 0,
    failures: { ERR_REFUSED: 2_000 },
  });
  expect(await next.tell("size")).toBe(8_000);
  next.kill("SIGTERM");
  const [there, here] = await Promise.all([next.says("log"), old.says("log")]);
  const aborted = new Map(here["abort"] as [string, number][]);
  const runs = there["run"] as [string, number][];
  expect(aborted.size).toBe(10_000);
  expect(new Set(runs.map(([id]) => id)).size).toBe(8_000);
  expect(runs).toHaveLength(8_000);
  expect(runs.filter(([id, at]) => at <= aborted.get(id)!)).toEqual([]);
  expect(runs.filter(([id]) => Number(id) % 5 === 0)).toEqual([]);
});
