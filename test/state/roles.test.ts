import { describe, expect, test } from "vitest";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import { Roles } from "../../dist/state/roles.js";
import { Actor } from "../support/actor.js";
import { expectOneHolderAtATime } from "../support/one-at-a-time.js";

const start = (settings: object = {}): Promise<Actor> => Actor.start("obeys-roles.js", settings);

/** What a process did with its roles: `acquire a`, `released b`. */
function story(actor: Actor, ...events: string[]): string[] {
  const lines = actor.service.lines.filter(({ pid, event }) => pid === actor.pid && events.includes(event));
  return lines.map(({ event, role }) => `${event} ${String(role)}`);
}

const held = (actor: Actor): string[] => story(actor, "acquired", "released");

const ALL = ["acquired a", "acquired b", "acquired c"];
const NONE = ["released c", "released b", "released a"];

describe("roles", () => {
  test("roles that are acquired again while a release of all goes on are held in the end", async () => {
    const roles = new Roles(new FencingTokens());
    const holders = new Set<string>();
    for (const name of ["a", "b", "c"]) {
      await roles.add(name, { acquire: () => holders.add(name), release: () => holders.delete(name) });
    }
    await roles.acquire();
    await roles.release();
    const releasing = roles.releaseAll();
    await Promise.all([releasing, roles.acquireAll()]);
    expect([...holders].toSorted()).toEqual(["a", "b", "c"]);
  });

  test("roles are acquired by ready() in their order, and released by a stop in reverse", async () => {
    const only = await start();
    const order = only.service.lines.map(({ event }) => event);
    expect(order.indexOf("acquire")).toBeGreaterThan(order.indexOf("started"));
    expect(order.lastIndexOf("acquired")).toBeLessThan(order.indexOf("ready"));
    only.kill("SIGTERM");
    await only.leaves("stopped");
    expect(held(only)).toEqual([...ALL, ...NONE]);
  });

  test("roles move in an upgrade: they are released before the commit, and acquired after it", async () => {
    const old = await start();
    const next = await old.upgrade();
    await old.leaves();
    expect(held(old)).toEqual([...ALL, ...NONE]);
    expect(held(next)).toEqual(ALL);
    const order = old.service.lines.map(({ event }) => event);
    expect(order.lastIndexOf("released")).toBeLessThan(order.indexOf("upgraded"));
    expectOneHolderAtATime(old.service.lines);
  });

  test("roles are held by one process at a time over four upgrades, with growing fences", async () => {
    const first = await start();
    let actor = first;
    for (let generation = 1; generation <= 4; generation++) actor = await (await actor.confirmed()).upgrade();
    expect(held(actor)).toEqual(ALL);
    expectOneHolderAtATime(first.service.lines);
  });

  test("roles that are added after ready() are acquired at once, and move", async () => {
    // Its successor stays on probation, so that the predecessor is there to be asked.
    const old = await start({ probation: 20_000, each: { 0: { acquire: { e: "throw" } } }, roles: ["a"] });
    await old.tell("add", "d");
    expect(held(old)).toEqual(["acquired a", "acquired d"]);
    await expect(old.tell("add", "e")).rejects.toMatchObject({ code: "ERR_ROLE" });
    await old.tell("add", "e");
    await expect(old.tell("add", "d")).rejects.toMatchObject({
      code: "ERR_OPTION",
      message: 'there is a role "d" already',
    });
    await old.upgrade();
    expect(story(old, "released")).toEqual(["released e", "released d", "released a"]);
    await expect(old.tell("add", "late")).rejects.toMatchObject({ code: "ERR_ALREADY_UPGRADED" });
  });

  test("roles that are acquired too late after ready() are released again", async () => {
    const old = await start({ each: { 0: { acquire: { d: "hold" } } }, roles: [], timeout: 100 });
    await expect(old.tell("add", "d")).rejects.toMatchObject({
      code: "ERR_ROLE",
      message: 'cannot acquire the role "d": it took more than 100 ms',
    });
    await old.tell("goOn", "acquire d");
    await old.says("released", { role: "d" });
    await old.tell("add", "d");
    expect(held(old)).toEqual(["acquired d", "released d", "acquired d"]);
  });
});

describe("release() of a role", () => {
  test("an upgrade waits for release() while the predecessor accepts", async () => {
    const old = await start({ each: { 0: { release: { b: "hold" } } } });
    const upgraded = old.upgrade();
    await old.says("release", { role: "b" });
    expect(await old.service.ask()).toBe(String(old.pid));
    expect(
      old.service.lines.filter(({ generation, event }) => generation === 1 && event === "acquire"),
    ).toEqual([]);
    await old.tell("goOn", "release b");
    const next = await upgraded;
    expect(await old.service.ask()).toBe(String(next.pid));
    expectOneHolderAtATime(old.service.lines);
  });

  test("a release() that throws fails the upgrade, the released roles are acquired again, and the next upgrade succeeds", async () => {
    const old = await start({ each: { 0: { release: { b: "throw" } } } });
    const failed = await old.failsToUpgrade();
    expect(failed["code"]).toBe("ERR_ROLE");
    expect(failed["message"]).toBe('cannot release the role "b": thrown by the test');
    expect(held(old)).toEqual([...ALL, "released c", "acquired c"]);
    expect(await old.service.ask()).toBe(String(old.pid));
    expect(old.service.alive()).toEqual([old.pid]);
    const next = await old.upgrade();
    await old.leaves();
    expect(held(next)).toEqual(ALL);
    expectOneHolderAtATime(old.service.lines);
  });

  test("a release() that is late fails the upgrade, and the role is acquired again after it", async () => {
    const old = await start({ each: { 0: { release: { b: "hold" } } }, timeout: 100 });
    await expect(old.tell("upgrade")).rejects.toMatchObject({
      code: "ERR_ROLE",
      message: 'cannot release the role "b": it took more than 100 ms',
    });
    expect(held(old)).toEqual([...ALL, "released c", "acquired c"]);
    const from = old.service.lines.length;
    await old.tell("goOn", "release b");
    await old.says("acquired", { role: "b" }, from);
    expect(story(old, "release", "acquire").slice(3)).toEqual([
      "release c",
      "release b",
      "acquire c",
      "acquire b",
    ]);
    const next = await old.upgrade();
    await old.leaves();
    expect(held(next)).toEqual(ALL);
    expectOneHolderAtATime(old.service.lines);
  });

  test("a role is acquired again if the upgrade is aborted during its release()", async () => {
    const old = await start({ each: { 0: { release: { b: "hold" } } } });
    const failing = old.tell("upgrade").catch((error: { code: string }) => error.code);
    await old.says("release", { role: "b" });
    await old.tell("abort");
    await old.tell("goOn", "release b");
    expect(await failing).toBe("ERR_ABORTED");
    expect(held(old)).toEqual([...ALL, ...NONE, ...ALL]);
    expect(old.service.alive()).toEqual([old.pid]);
    await old.upgrade();
    expectOneHolderAtATime(old.service.lines);
  });

  test("a role stays released if the process is stopped during its release()", async () => {
    const old = await start({ each: { 0: { release: { b: "hold" } } } });
    const failing = old.tell("upgrade").catch((error: { code: string }) => error.code);
    await old.says("release", { role: "b" });
    old.kill("SIGTERM");
    await old.says("draining");
    await old.tell("goOn", "release b");
    expect(await failing).toBe("ERR_STOPPED");
    await old.leaves("stopped");
    await old.service.ended();
    expect(held(old)).toEqual([...ALL, ...NONE]);
    expect(story(old, "release")).toEqual(["release c", "release b", "release a"]);
  });

  test("a role is acquired again if the successor is killed during its release()", async () => {
    const old = await start({ each: { 0: { release: { b: "hold" } } } });
    old.kill("SIGHUP");
    await old.says("release", { role: "b" });
    const { pid } = await old.service.until("started", { generation: 1 });
    process.kill(pid, "SIGKILL");
    const from = old.service.lines.length;
    await old.tell("goOn", "release b");
    await old.says("acquired", { role: "c" }, from);
    expect(held(old)).toEqual([...ALL, ...NONE, ...ALL]);
    await old.upgrade();
  });

  test("a release() that throws at a stop is reported, and the other roles are released", async () => {
    const only = await start({ each: { 0: { release: { b: "throw" } } } });
    only.kill("SIGTERM");
    await only.leaves("stopped");
    expect(await only.says("failed")).toMatchObject({ code: "ERR_ROLE" });
    expect(held(only)).toEqual([...ALL, "released c", "released a"]);
    expect(await only.service.exited).toEqual([0, null]);
  });
});

describe("the roles of a successor", () => {
  test("a successor that fails before it is ready leaves the roles to its predecessor", async () => {
    const old = await start({ each: { 1: { waits: true } } });
    const next = await old.upgrade("started");
    next.kill();
    await old.says("failed", { code: "ERR_CHILD_EXITED" });
    expect(held(old)).toEqual(ALL);
    expect(story(next, "acquire")).toEqual([]);
  });

  test("a successor that cannot acquire a role is not ready, and its predecessor acquires all again", async () => {
    const old = await start({ each: { 1: { acquire: { b: "throw" } } }, probation: 20_000 });
    old.kill("SIGHUP");
    const line = await old.service.until("not ready", { generation: 1 });
    expect(line).toMatchObject({ code: "ERR_ROLE" });
    expect(line["message"]).toBe('cannot acquire the role "b": thrown by the test');
    await old.service.until("rollback");
    await old.service.until("acquired", { pid: old.pid, role: "c" }, old.service.lines.indexOf(line));
    expect(held(old)).toEqual([...ALL, ...NONE, ...ALL]);
    expect(await old.service.ask()).toBe(String(old.pid));
  });

  test("a successor that acquires a role too late is not ready", async () => {
    const old = await start({ each: { 1: { acquire: { b: "hang" } } }, probation: 20_000, timeout: 100 });
    old.kill("SIGHUP");
    const line = await old.service.until("not ready", { generation: 1 });
    expect(line["message"]).toBe('cannot acquire the role "b": it took more than 100 ms');
    await old.service.until("rollback");
    await old.service.until("acquired", { pid: old.pid, role: "c" }, old.service.lines.indexOf(line));
  });

  test.each([
    ["on probation", {}],
    ["while it acquires them", { acquire: { b: "die" } }],
  ])("a successor that is killed %s gives its roles back, with higher fences", async (_, own) => {
    const old = await start({ each: { 1: own }, probation: 20_000 });
    old.kill("SIGHUP");
    const { pid, fence } = await old.service.until("acquire", { generation: 1, role: "b" });
    if (!("acquire" in own)) process.kill(pid, "SIGKILL");
    const from = old.service.lines.findIndex((line) => line.pid === old.pid && line.event === "released");
    for (const role of ["a", "b", "c"]) await old.says("acquired", { role }, from);
    expect(held(old)).toEqual([...ALL, ...NONE, ...ALL]);
    const again = old.said("acquire").slice(3);
    expect(again.every((line) => Number(line["fence"]) > Number(fence))).toBe(true);
    expect(old.said("unhandled")).toEqual([]);
  });

  test("a role that cannot be acquired again after a rollback leaves the others to the predecessor", async () => {
    const old = await start({ probation: 20_000 });
    const next = await old.upgrade();
    await old.tell("fail", "acquire", "b");
    const from = old.service.lines.length;
    next.kill();
    await old.says("acquired", { role: "c" }, from);
    expect(await old.says("failed", {}, from)).toMatchObject({ code: "ERR_ROLE" });
    expect(held(old).slice(-2)).toEqual(["acquired a", "acquired c"]);
  });

  test("a successor whose predecessor is killed while it waits acquires the roles", async () => {
    const old = await start({ each: { 1: { waits: true } } });
    const next = await old.upgrade("started");
    old.kill();
    await old.service.exited;
    next.kill("SIGUSR2");
    await next.says("accepting");
    expect(held(next)).toEqual(ALL);
  });
});
