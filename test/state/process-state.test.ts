import { once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { closeAll } from "../../dist/platform/descriptors.js";
import { DrainContext } from "../../dist/exchange/drain-context.js";
import { FencingTokens } from "../../dist/exchange/fencing.js";
import { HandoverError } from "../../dist/errors.js";
import { v8Codec } from "../../dist/state/codec.js";
import type { Slot } from "../../dist/state/slots/slots.js";
import { ProcessState } from "../../dist/state/process-state.js";
import { openPair, type LocalPair, type Packet } from "../support/local-pair.js";

interface States extends LocalPair {
  /** Of the process that ends. */
  old: ProcessState;
  /** Of its successor. */
  young: ProcessState;
}

/** The state of two processes, in one, with a real channel between them. */
function open(...hooks: Parameters<typeof openPair>): States {
  const pair = openPair(...hooks);
  const old = new ProcessState(new FencingTokens(), alone);
  const young = new ProcessState(new FencingTokens(), {
    ...alone,
    predecessors: () => [pair.taker],
  });
  young.subscribeTo(pair.taker);
  old.answerQueriesOf(pair.owner);
  return { ...pair, old, young };
}

function always(): void {}

const alone = {
  self: { generation: 0, pid: 1 },
  directory: undefined,
  predecessors: () => [],
  isLeaving: () => false,
  assertMayRun: always,
};

const plain = {
  version: 1,
  run: (_: string, name: string) => name,
  freeze: (_: string, name: string) => name,
};

/** The old process ends. */
async function depart(
  { old, owner }: States,
  swept: Promise<void> = Promise.resolve(),
): Promise<DrainContext> {
  await expect.poll(() => owner.peers("slot")).toHaveLength(1);
  const departure = new DrainContext(owner, new Promise(() => {}), 20_000);
  old.beginDrain(departure);
  onTestFinished(() => departure.end());
  void old.drain(departure, swept);
  return departure;
}

/** Vitest fails a run in which nobody handles a rejection. */
async function rejects(): Promise<never> {
  return Promise.reject(new Error("rejected by the test"));
}

function fails(): never {
  throw new Error("thrown by the test");
}

/** The warnings of this process, while the test runs. */
function warnings(): string[] {
  const seen: string[] = [];
  const listener = ({ message }: Error): void => void seen.push(message);
  process.on("warning", listener);
  onTestFinished(() => void process.off("warning", listener));
  return seen;
}

/** Damages the first `times` offers of the label `a`. */
function damaging(times: number): (packet: Packet) => Packet {
  return ([message, fds, body]) => {
    const isMeant = message.type === "offer" && message.parcels[0]?.label === "a" && times-- > 0;
    return [message, fds, isMeant ? body.map((byte) => byte ^ 1) : body];
  };
}

test.each([
  [2, { how: "taken", by: { generation: 1, pid: 1 } }, []],
  [
    3,
    { how: "failed", refusals: Array.from({ length: 3 }, () => ({ code: "ERR_DAMAGED" })) },
    ['slot "a" (7 bytes) is not offered again: 3 attempts have failed'],
  ],
])(
  "a slot that is damaged %i times on its way is offered at most three times",
  async (times, outcome, told) => {
    const states = open(damaging(times));
    const seen = warnings();
    const taken: unknown[] = [];
    for (const label of ["a", "b"]) {
      states.young.slot(label, { version: 1 }).subscribe(({ data }) => taken.push([label, data]));
    }
    const damaged = states.old.slot("a", { version: 1 }).initiate({ n: 1 });
    const whole = states.old.slot("b", { version: 1 }).initiate(2);
    states.owner.confirm();
    await depart(states);
    expect(await damaged).toEqual(outcome);
    expect(await whole).toMatchObject({ how: "taken" });
    await expect.poll(() => seen).toEqual(told);
    expect(taken).toHaveLength(outcome.how === "taken" ? 2 : 1);
  },
);

test.each([
  [5, 20_000, { how: "taken", by: { generation: 1, pid: 1 } }],
  [
    Infinity,
    50,
    {
      how: "withdrawn",
      refusals: [{ code: "ERR_DESCRIPTOR" }, { code: "ERR_TIMEOUT", reason: "it was not taken in 50 ms" }],
    },
  ],
])(
  "a slot for which there is no room %d times is offered again until its timeout",
  async (times, timeout, outcome) => {
    // Of a large body only a descriptor travels.
    const states = open(([message, fds, body]) => {
      const isMeant = message.type === "offer" && times-- > 0;
      if (isMeant) closeAll(fds);
      return [message, isMeant ? [] : fds, body];
    });
    const taken: unknown[] = [];
    states.young.slot<Uint8Array>("a", { version: 1 }).subscribe(({ data }) => taken.push(data.length));
    const settled = states.old.slot("a", { version: 1 }).initiate(Buffer.alloc(100_000), { timeout });
    states.owner.confirm();
    await depart(states);
    expect(await settled).toEqual(outcome);
    expect(taken).toHaveLength(outcome.how === "taken" ? 1 : 0);
  },
);

test("a slot that is withdrawn while it is being taken has one owner", async () => {
  const states = open();
  const races = Array.from({ length: 400 }, (_, n) => String(n));
  const took = new Map<string, AbortSignal>();
  const takes: Promise<void>[] = [];
  // The first is taken at once, the last only when it is withdrawn; between them the one or the other comes first.
  for (const [n, label] of races.entries()) {
    const take = async ({ signal }: { signal: AbortSignal }): Promise<void> => {
      for (let turns = 0; turns < n % 40; turns++) await turn();
      if (n === races.length - 1 && !signal.aborted) await once(signal, "abort");
      took.set(label, signal);
    };
    states.young.slot(label, { version: 1 }).subscribe((state) => takes[takes.push(take(state)) - 1]);
  }
  const outcomes = races.map((label, n) =>
    states.old
      .slot(label, { version: 1 })
      // Every fourth one is so large that it is written and read besides.
      .initiate(n % 4 === 0 ? Buffer.alloc(100_000) : n, { timeout: n === 0 ? 20_000 : 1 + (n % 12) }),
  );
  states.owner.confirm();
  await depart(states);
  const settled = await Promise.all(outcomes);
  await Promise.all(takes);
  const owners = settled.map(({ how }, n) => {
    const signal = took.get(races[n]!);
    return Number(how !== "taken") + Number(signal !== undefined && !signal.aborted);
  });
  expect(owners).toEqual(races.map(() => 1));
  // Or there has been no race.
  expect(new Set(settled.map(({ how }) => how))).toEqual(new Set(["taken", "withdrawn"]));
});

test("a slot that is still being taken when the drain is over stays with its owner", async () => {
  const states = open();
  let take!: () => void;
  let signal: AbortSignal | undefined;
  const held = new Promise<void>((resolve) => (take = resolve));
  states.young.slot("a", { version: 1 }).subscribe(async (state) => {
    ({ signal } = state);
    await held;
  });
  // So large a one is given more time than its timeout.
  const outcome = states.old.slot("a", { version: 1 }).initiate(Buffer.alloc(20_000_000));
  const departure = await depart(states);
  await expect.poll(() => signal?.aborted).toBe(false);
  departure.end();
  expect(await outcome).toEqual({
    how: "withdrawn",
    refusals: [{ code: "ERR_TIMEOUT", reason: "the successor does not answer" }],
  });
  await expect.poll(() => signal!.aborted).toBe(true);
  take();
  states.owner.confirm();
  expect(await states.young.slot("a", { version: 1 }).complete()).toEqual([]);
});

test.each([
  ["another version", { version: 2 }, "ERR_VERSION"],
  ["another codec", { version: 1, codec: v8Codec }, "ERR_CODEC"],
  ["a failing migrate", { version: 2, migrate: fails }, "ERR_MIGRATE"],
  ["a failing check", { version: 1, check: fails }, "ERR_CHECK"],
])("peek() rejects with a HandoverError in a process with %s", async (_, schema, code) => {
  const states = open();
  void states.old.slot("a", { version: 1 }).initiate(1);
  const error: unknown = await states.young
    .slot("a", schema)
    .peek()
    .catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(HandoverError);
  expect(error).toMatchObject({ code });
});

test("slots that come back while another one is on its way keep their order", async () => {
  const states = open();
  const seen: number[] = [];
  let hold = true;
  const slot = states.young.slot<number>("a", { version: 1 });
  slot.subscribe(({ data }) => {
    seen.push(data);
    return data === 3 && hold ? new Promise(() => {}) : undefined;
  });
  const given: Slot<number> = states.old.slot("a", { version: 1 });
  const outcomes = [1, 2, 3, 4].map((n) => given.initiate(n));
  await depart(states);
  await expect.poll(() => seen).toEqual([1, 2, 3]);
  hold = false;
  states.taker.stopReading();
  states.taker.changeReader({ generation: 2, pid: 2 }, true);
  states.young.slot<number>("a", { version: 1 }).subscribe(({ data }) => void seen.push(data));
  await expect.poll(() => seen.length).toBe(7);
  expect(seen.slice(3)).toEqual([1, 2, 3, 4]);
  states.owner.confirm();
  expect((await Promise.all(outcomes)).map(({ how }) => how)).toEqual(["taken", "taken", "taken", "taken"]);
});

test("a unit that was expedited before the units move moves first", async () => {
  const states = open();
  const seen: string[] = [];
  const define = (state: ProcessState) =>
    state.units<string, string>("room", {
      version: 1,
      run: (id, name) => (state === states.young && seen.push(id), name),
      freeze: (_, name) => name,
      drain: { concurrency: 1 },
    });
  const [before, after] = [define(states.old), define(states.young)];
  for (const id of ["a", "b", "c", "d"]) await before.start(id, `room ${id}`);
  let sweep!: () => void;
  await expect.poll(() => states.owner.peers("unit", "room")).toHaveLength(1);
  await depart(states, new Promise((resolve) => (sweep = resolve)));
  const wanted = after.start("d", "anew");
  expect(await states.taker.expedite("unit", "room", "c")).toBe(true);
  expect(await states.taker.expedite("unit", "room", "e")).toBe(false);
  sweep();
  expect(await wanted).toBe("room d");
  await expect.poll(() => after.size).toBe(4);
  expect(seen).toEqual(["d", "c", "a", "b"]);
});

test("units that are expedited while the units move are next, in the order of the requests", async () => {
  const states = open();
  const seen: string[] = [];
  let goOn!: () => void;
  const held = new Promise<void>((resolve) => (goOn = resolve));
  const define = (state: ProcessState) =>
    state.units<string, string>("room", {
      version: 1,
      run: async (id, name) => {
        if (state === states.young) seen.push(id);
        if (state === states.young && id === "a") await held;
        return name;
      },
      freeze: (_, name) => name,
      drain: { concurrency: 1 },
    });
  const [before, after] = [define(states.old), define(states.young)];
  for (const id of ["a", "b", "c", "d", "e", "f"]) await before.start(id, `room ${id}`);
  await expect.poll(() => states.owner.peers("unit", "room")).toHaveLength(1);
  await depart(states);
  await expect.poll(() => seen).toEqual(["a"]);
  for (const id of ["f", "d", "f", "a"]) {
    expect(await states.taker.expedite("unit", "room", id)).toBe(true);
  }
  goOn();
  await expect.poll(() => after.size).toBe(6);
  expect(seen).toEqual(["a", "f", "d", "b", "c", "e"]);
});

test("a unit whose eligible() or priority() is asynchronous or no number does not disturb the others", async () => {
  const states = open();
  const seen: string[] = [];
  const ranks: Record<string, unknown> = { a: undefined, b: 3n, c: NaN, d: 2, e: "x", f: rejects };
  const define = (state: ProcessState) =>
    state.units<string, string>("room", {
      version: 1,
      run: (id, name) => (state === states.young && seen.push(id), name),
      freeze: (_, name) => name,
      eligible: (id) => (id === "g" ? (rejects() as unknown as boolean) : true),
      priority: (id) => (ranks[id] === rejects ? rejects() : ranks[id]) as number,
      drain: { concurrency: 1 },
    });
  const [before, after] = [define(states.old), define(states.young)];
  for (const id of ["a", "b", "c", "d", "e", "f", "g"]) await before.start(id, `room ${id}`);
  await expect.poll(() => states.owner.peers("unit", "room")).toHaveLength(1);
  states.owner.confirm();
  const departure = await depart(states);
  await expect.poll(() => after.size).toBe(5);
  expect(seen).toEqual(["b", "d", "a", "c", "e"]);
  departure.end();
  expect(await before.drain()).toMatchObject({ moved: 5, stopped: 2, failures: { ERR_UNIT: 2 } });
});

/** A drain of the old process in which units are stopped soon, although the successor's probation is not over. */
async function drainShortly({ old, owner }: States): Promise<void> {
  await expect.poll(() => owner.peers("unit", "room")).toHaveLength(1);
  const context = new DrainContext(owner, new Promise(() => {}), 200);
  old.beginDrain(context);
  onTestFinished(() => context.end());
  void old.drain(context, Promise.resolve());
}

test("a unit that has ended without a state is gone after a rollback, and the unit that moved runs again", async () => {
  const states = open();
  let end!: () => void;
  const ended = new Promise<void>((resolve) => (end = resolve));
  const before = states.old.units<string, string>("room", {
    ...plain,
    run: (id, name, { signal }) => (id === "b" && signal.addEventListener("abort", end), name),
    eligible: (id) => id === "a",
  });
  const after = states.young.units("room", plain);
  for (const id of ["a", "b"]) await before.start(id, `room ${id}`);
  await drainShortly(states);
  await expect.poll(() => after.get("a")).toBe("room a");
  await ended;
  expect(before.size).toBe(0);
  states.old.rollBack();
  await expect.poll(() => before.get("a")).toBe("room a");
  expect(before.get("b")).toBeUndefined();
  expect(before.size).toBe(1);
});

test("a unit that runs again after a rollback is not ended by the stop of its run before", async () => {
  const states = open();
  const signals: AbortSignal[] = [];
  let finish!: () => void;
  const held = new Promise<void>((resolve) => (finish = resolve));
  let stop!: () => void;
  const stopping = new Promise<void>((resolve) => (stop = resolve));
  const before = states.old.units<string, string>("room", {
    ...plain,
    run: (_, name, { signal }) => (signals.push(signal), name),
    eligible: () => false,
    stop: async () => {
      stop();
      await held;
    },
  });
  states.young.units("room", plain);
  await before.start("a", "room a");
  await drainShortly(states);
  await stopping;
  states.old.rollBack();
  await expect.poll(() => before.get("a")).toBe("room a");
  finish();
  await turn();
  expect(before.get("a")).toBe("room a");
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
});

test("the options of a drain have defaults, and a wrong one is named", async () => {
  const state = new ProcessState(new FencingTokens(), alone);
  const define = (kind: string, concurrency: unknown) => {
    const drain = { concurrency } as { concurrency: number };
    return state.units<null, null>(kind, { version: 1, run: () => null, freeze: () => null, drain });
  };
  const units = define("room", undefined);
  await units.start("a", null);
  expect(await units.drain({ giveUpAfter: undefined } as object)).toMatchObject({ stopped: 1 });
  expect(() => define("session", 0)).toThrow('the option "concurrency" must be a whole number from 1 to');
});

test("a process that stops refuses the offers of an older one, which stops the units itself", async () => {
  const states = open();
  const seen: unknown[] = [];
  states.young.slot("a", { version: 1 }).subscribe(({ data }) => seen.push(data));
  const outcome = states.old.slot("a", { version: 1 }).initiate(1);
  const [before, after] = [states.old, states.young].map((state) => state.units("room", plain));
  await before!.start("1", "room 1");
  await expect.poll(() => states.owner.peers("unit", "room")).toHaveLength(1);
  const ending = new DrainContext(undefined, Promise.resolve(true), 20_000);
  states.young.beginDrain(ending);
  onTestFinished(() => ending.end());
  const departure = await depart(states);
  expect(await outcome).toEqual({ how: "withdrawn", refusals: [{ code: "ERR_STOPPED" }] });
  departure.end();
  expect(await before!.drain()).toMatchObject({ moved: 0, stopped: 1, failures: { ERR_STOPPED: 1 } });
  expect(seen).toEqual([]);
  expect(after!.size).toBe(0);
});

test("a unit that runs in the successor already is not replaced by the predecessor's", async () => {
  const states = open();
  const [before, after] = [states.old, states.young].map((state) => state.units("room", plain));
  // The successor has it from somewhere else.
  await after!.start("1", "its own");
  for (const id of ["1", "2"]) await before!.start(id, `room ${id}`);
  await expect.poll(() => states.owner.peers("unit", "room")).toHaveLength(1);
  const departure = await depart(states);
  await expect.poll(() => after!.get("2")).toBe("room 2");
  states.owner.confirm();
  // The answers about both may come after the unit has begun.
  expect(await before!.drain()).toMatchObject({ moved: 1, stopped: 1, failures: { ERR_RUNNING: 1 } });
  departure.end();
  expect(after!.get("1")).toBe("its own");
});

test("an offer that cannot be sent waits until there is room, and does not block the event loop", async () => {
  let attempts = 0;
  let isFull = true;
  const states = open(undefined, ({ type }) => {
    if (type !== "offer" || !isFull) return;
    // An event loop that is kept busy by promises never comes to it.
    if (++attempts === 3) setImmediate(() => (isFull = false));
    throw new Error("EMFILE");
  });
  const taken: unknown[] = [];
  states.young.slot("a", { version: 1 }).subscribe(({ data }) => taken.push(data));
  const [before, after] = [states.old, states.young].map((state) =>
    state.units<string, string>("room", { version: 1, run: (_, name) => name, freeze: (_, name) => name }),
  );
  await before!.start("1", "room 1");
  await expect.poll(() => states.owner.peers("unit", "room")).toHaveLength(1);
  const outcome = states.old.slot("a", { version: 1 }).initiate(1);
  states.owner.confirm();
  await depart(states);
  expect(await outcome).toMatchObject({ how: "taken" });
  await expect.poll(() => after!.get("1")).toBe("room 1");
  expect(taken).toEqual([1]);
});

/** The error for a name of the library. */
function reserved(what: string): Error {
  const message = `${what} cannot be "handover:x": names that begin with "handover:" are reserved for handover itself`;
  return expect.objectContaining({ code: "ERR_OPTION", message }) as Error;
}

test("names that begin with handover: are refused for slots, units and roles of the program", async () => {
  const state = new ProcessState(new FencingTokens(), alone);
  expect(() => state.slot("handover:x", { version: 1 })).toThrow(reserved("the label of a slot"));
  expect(() => state.units("handover:x", plain)).toThrow(reserved("the kind of units"));
  expect(() => state.roles.add("handover:x", { acquire: always, release: always })).toThrow(
    reserved("the name of a role"),
  );
  expect(() => state.slot("handover", { version: 1 })).not.toThrow();
  await state.units("room", plain).start("handover:x", "an id is free");
});

test("a slot that is given between the commit and the drain is given away: a rollback gives it back", async () => {
  const pair = openPair();
  const old = new ProcessState(new FencingTokens(), { ...alone, isLeaving: () => true });
  const counts = new Map([["a", 1]]);
  const slot: Slot<number[]> = old.slot("counts", { version: 1 });
  const givenBack: number[][] = [];
  slot.subscribe(({ data }) => givenBack.push(data));
  const outcome = slot.initiate(() => {
    const moved = [...counts.values()];
    counts.clear();
    return moved;
  });
  pair.taker.subscribe("slot", undefined, () => "taken");
  await depart({ ...pair, old, young: old });
  await expect.poll(() => counts.size).toBe(0);
  old.rollBack();
  expect(await outcome).toMatchObject({ how: "withdrawn" });
  expect(givenBack).toEqual([[1]]);
});

test("a drain whose timer fires early is over", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const departure = new DrainContext(undefined, new Promise(() => {}), 20_000);
  expect(departure.remaining).toBeGreaterThan(0);
  vi.advanceTimersByTime(20_000);
  await departure.over;
  expect(departure.remaining).toBe(0);
});

test("a slot and a unit that the successor may have taken fail when the channel fails", async () => {
  const arrived: string[] = [];
  const swallow = ([message]: Packet): undefined => {
    if (message.type === "offer") arrived.push(...message.parcels.map(({ kind, id }) => `${kind} ${id}`));
    return undefined;
  };
  const states = open(swallow);
  states.young.slot("a", { version: 1 }).subscribe(always);
  states.young.units("room", plain);
  const slot = states.old.slot("a", { version: 1 }).initiate(1);
  const room = states.old.units("room", plain);
  await room.start("lobby", "of the old process");
  await depart(states);
  await expect.poll(() => arrived).toHaveLength(2);
  const drained = room.drain();
  states.owner.fail([]);
  states.owner.lose();
  const refusals = [{ code: "ERR_CHANNEL", reason: expect.any(String) as string }];
  expect(await slot).toEqual({ how: "failed", refusals });
  expect(await drained).toMatchObject({ moved: 0, stopped: 0, failed: 1, failures: { ERR_CHANNEL: 1 } });
});
