import { expect, test } from "vitest";
import { Dice } from "../support/dice.js";
import { expectOneRunAtATime } from "../support/one-at-a-time.js";
import type { Line } from "../support/service.js";
import { Supervised, type SupervisedOptions } from "../support/supervised.js";

const start = (settings: object = {}, options: SupervisedOptions = {}): Promise<Supervised> =>
  Supervised.start("obeys-units.js", { ...options, settings });

/** The refusal of a unit that another worker has. */
const elsewhere = (index: number, generation: number, pid: number): object => ({
  code: "ERR_ELSEWHERE",
  owner: { index, generation, pid },
});

/** Kills a worker, and waits until the supervisor has started another one in its place. */
async function kill(supervised: Supervised, pid: number): Promise<void> {
  process.kill(pid, "SIGKILL");
  await supervised.eventually(
    ({ workers = [] }) =>
      workers.every((one) => one.pid !== pid) && workers.some(({ restarts }) => restarts > 0),
  );
}

const said = (supervised: Supervised, event: string, fields: Partial<Line>): Line[] =>
  supervised.service.lines.filter(
    (line) => line.event === event && Object.entries(fields).every(([name, value]) => line[name] === value),
  );

test("a unit that one worker has is refused in another, with the worker that has it", async () => {
  const supervised = await start();
  const [first, second] = await supervised.pids();
  expect(await supervised.tell(first!, "start", "a")).toEqual({ runs: 1, from: 0 });
  await expect(supervised.tell(second!, "start", "a")).rejects.toMatchObject(elsewhere(0, 0, first!));
  expect(await supervised.tell(second!, "where", "a")).toEqual({ index: 0, generation: 0, pid: first });
  expect(await supervised.tell(second!, "where", "b")).toBeUndefined();
  expect(await supervised.tell(first!, "start", "a")).toEqual({ runs: 1, from: 0 });
});

test("a unit that a worker has released runs in the next one that starts it, with a higher fence", async () => {
  const supervised = await start();
  const [first, second] = await supervised.pids();
  for (const [n, pid] of [first!, second!, first!].entries()) {
    await supervised.tell(pid, "start", "a");
    expect(await supervised.tell(pid, "release", "a")).toBe(true);
    expect(said(supervised, "run", { id: "a" })).toHaveLength(n + 1);
  }
  expectOneRunAtATime(supervised.service.lines);
});

test("a unit whose run() throws, or that drain() has stopped, is free", async () => {
  const supervised = await start({ each: { 0: { run: { a: "throw" } } } });
  const [first, second] = await supervised.pids();
  await expect(supervised.tell(first!, "start", "a")).rejects.toMatchObject({ code: "ERR_MINE" });
  await expect(supervised.tell(second!, "start", "a")).rejects.toMatchObject({ code: "ERR_MINE" });
  await supervised.tell(first!, "start", "b");
  await supervised.tell(first!, "drain");
  expect(await supervised.tell(second!, "start", "b")).toEqual({ runs: 1, from: 0 });
  expectOneRunAtATime(supervised.service.lines);
});

test("of calls at the same time, in all workers and twice in each, one runs the unit", async () => {
  const supervised = await start({}, { workers: 3 });
  const pids = await supervised.pids();
  const answers = await Promise.all(pids.map(async (pid) => supervised.tell(pid, "startAll", ["a", "a"])));
  expect(answers.filter((answer) => (answer as { here?: number }).here === 2)).toHaveLength(1);
  expect(
    answers.filter((answer) => (answer as object as { ERR_ELSEWHERE?: number }).ERR_ELSEWHERE === 2),
  ).toHaveLength(2);
  expect(said(supervised, "run", { id: "a" })).toHaveLength(1);
});

test('units of the scope "process" run in each worker that starts them', async () => {
  const supervised = await start({ scope: "process" });
  for (const pid of await supervised.pids()) {
    expect(await supervised.tell(pid, "start", "a")).toEqual({ runs: 1, from: 0 });
    expect(await supervised.tell(pid, "where", "a")).toMatchObject({ pid });
  }
});

test("the units of a worker that is killed are free at once, with higher fences", async () => {
  const supervised = await start();
  const [first, second] = await supervised.pids();
  const ids = Array.from({ length: 100 }, (_, n) => String(n));
  expect(await supervised.tell(first!, "startAll", ids)).toEqual({ here: 100 });
  const killedAt = process.hrtime.bigint();
  await kill(supervised, first!);
  expect(await supervised.tell(second!, "startAll", ids)).toEqual({ here: 100 });
  expectOneRunAtATime(supervised.service.lines, new Map([[first!, killedAt]]));
});

test("units move to the new worker of the same index, which has them from then on", async () => {
  const supervised = await start();
  const [first, second] = await supervised.pids();
  await supervised.tell(first!, "start", "a");
  await supervised.tell(second!, "start", "b");
  await supervised.replace();
  const [newFirst, newSecond] = await supervised.pids();
  expect(await supervised.tell(newFirst!, "start", "a")).toEqual({ runs: 2, from: 1 });
  expect(await supervised.tell(newSecond!, "start", "b")).toEqual({ runs: 2, from: 1 });
  await expect(supervised.tell(newSecond!, "start", "a")).rejects.toMatchObject(elsewhere(0, 1, newFirst!));
  // The old worker's right is over: the unit is free when the new one gives it up.
  await supervised.tell(newFirst!, "release", "a");
  expect(await supervised.tell(newSecond!, "start", "a")).toEqual({ runs: 1, from: 1 });
  expectOneRunAtATime(supervised.service.lines);
});

test("start() in the new worker of another index is refused while the unit is in the old worker", async () => {
  const each = { 0: { freeze: { a: "hold" } } };
  const supervised = await start({ each });
  const [first] = await supervised.pids();
  await supervised.tell(first!, "start", "a");
  await supervised.upgrade();
  await supervised.until("freeze", { id: "a" });
  const [newFirst, newSecond] = ["0", "1"].map(
    (worker) =>
      supervised.service.lines.find(
        (line) => line.event === "accepting" && line.generation === 1 && String(line["worker"]) === worker,
      )!.pid,
  );
  await expect(supervised.tell(newSecond!, "start", "a")).rejects.toMatchObject(elsewhere(0, 0, first!));
  const waiting = supervised.tell(newFirst!, "start", "a");
  await supervised.tell(first!, "goOn", "freeze a");
  expect(await waiting).toEqual({ runs: 2, from: 1 });
  await expect(supervised.tell(newSecond!, "start", "a")).rejects.toMatchObject(elsewhere(0, 1, newFirst!));
});

test("a unit that the new worker refuses is the old one's until it has stopped it, and free then", async () => {
  const each = { 0: { stop: { a: "hold" } }, 1: { run: { a: "throw" } } };
  const supervised = await start({ each });
  const [first] = await supervised.pids();
  await supervised.tell(first!, "start", "a");
  await supervised.upgrade();
  const stopped = await supervised.until("stop", { id: "a" });
  // It may have written with its fence.
  const refused = await supervised.until("run", { id: "a", runs: 2 });
  expect(stopped["fence"]).toBeGreaterThan(refused["fence"] as number);
  await supervised.eventually(({ state }) => state === "ready");
  const [newFirst, newSecond] = await supervised.pids();
  await expect(supervised.tell(newSecond!, "start", "a")).rejects.toMatchObject(elsewhere(0, 0, first!));
  await supervised.tell(first!, "goOn", "stop a");
  await supervised.eventually(({ predecessors }) => predecessors.length === 0);
  expect(await supervised.tell(newSecond!, "where", "a")).toBeUndefined();
  expect(said(supervised, "run", { pid: newFirst! })).toHaveLength(1);
  expectOneRunAtATime(supervised.service.lines);
});

test("a unit that has moved is no longer the old worker's, also while that one still stops others", async () => {
  const each = { 0: { eligible: { b: false }, stop: { b: "hold" } } };
  const supervised = await start({ each });
  const [first] = await supervised.pids();
  await supervised.tell(first!, "startAll", ["a", "b"]);
  await supervised.upgrade();
  await supervised.until("stop", { id: "b" });
  await supervised.eventually(({ state }) => state === "ready");
  const [newFirst, newSecond] = await supervised.pids();
  await expect(supervised.tell(newSecond!, "start", "b")).rejects.toMatchObject(elsewhere(0, 0, first!));
  await supervised.tell(newFirst!, "release", "a");
  expect(await supervised.tell(newSecond!, "start", "a")).toEqual({ runs: 1, from: 1 });
  await supervised.tell(first!, "goOn", "stop b");
  expectOneRunAtATime(supervised.service.lines);
});

test("a rollback gives all units back to the old workers, and no other one gets them meanwhile", async () => {
  const supervised = await start({}, { probation: 20_000 });
  const [first, second] = await supervised.pids();
  await supervised.tell(first!, "startAll", ["a", "b"]);
  await supervised.tell(second!, "start", "c");
  const upgrade = supervised.upgrade();
  const moved = await Promise.all(
    ["a", "b", "c"].map(async (id) => supervised.until("run", { id, runs: 2 })),
  );
  const killedAt = process.hrtime.bigint();
  process.kill(moved[0]!.pid, "SIGKILL");
  await expect(upgrade).rejects.toMatchObject({ code: "ERR_ROLLED_BACK" });
  const again = await Promise.all(
    ["a", "b", "c"].map(async (id) => {
      const from = supervised.service.lines.findIndex(
        (line) => line.event === "run" && line.id === id && line["runs"] === 2,
      );
      return supervised.until("run", { id }, from + 1);
    }),
  );
  expect(again.map(({ pid }) => pid)).toEqual([first, first, second]);
  await supervised.settled();
  await expect(supervised.tell(second!, "start", "a")).rejects.toMatchObject(elsewhere(0, 0, first!));
  const deaths = new Map(moved.map(({ pid }) => [pid, killedAt]));
  expectOneRunAtATime(supervised.service.lines, deaths);
});

test("the units of an old worker that was killed before they moved are free", async () => {
  const supervised = await start({ each: { 0: { freeze: { "*": "hang" } } } });
  const [first] = await supervised.pids();
  await supervised.tell(first!, "start", "a");
  await supervised.upgrade();
  await supervised.until("freeze", { id: "a" });
  const killedAt = process.hrtime.bigint();
  process.kill(first!, "SIGKILL");
  await supervised.eventually(
    ({ state, predecessors }) => state === "ready" && predecessors.every(({ pid }) => pid !== first),
  );
  const [, newSecond] = await supervised.pids();
  expect(await supervised.tell(newSecond!, "start", "a")).toEqual({ runs: 1, from: 1 });
  expectOneRunAtATime(supervised.service.lines, new Map([[first!, killedAt]]));
});

test("10,000 units move in an upgrade, and each is the new worker's", { timeout: 120_000 }, async () => {
  const supervised = await start({ quiet: true }, { workers: 2 });
  const [first] = await supervised.pids();
  const ids = Array.from({ length: 10_000 }, (_, n) => String(n));
  expect(await supervised.tell(first!, "startAll", ids)).toEqual({ here: 10_000 });
  await supervised.replace();
  const [newFirst, newSecond] = await supervised.pids();
  expect(await supervised.tell(newFirst!, "size")).toBe(10_000);
  expect(await supervised.tell(newSecond!, "startAll", ids)).toEqual({ ERR_ELSEWHERE: 10_000 });
});

test(
  "1,000 units run once each, through upgrades and kills of workers that all start them, and none is lost",
  { timeout: 240_000 },
  async () => {
    const supervised = await start({}, { workers: 4, backoff: 0, restarts: 1_000 });
    const dice = new Dice(13);
    const ids = Array.from({ length: 1_000 }, (_, n) => String(n));
    const deaths = new Map<number, bigint>();
    const living = (): number[] =>
      supervised.service.lines
        .filter(({ event, pid }) => event === "accepting" && !deaths.has(pid))
        .map(({ pid }) => pid);
    /** A worker that was killed, or has left, does not answer. */
    const startAll = async (pid: number): Promise<unknown> =>
      supervised.tell(pid, "startAll", ids).catch(() => {});
    for (let round = 0; round < 6; round++) {
      const starting = (await supervised.pids()).map(startAll);
      const upgrading = supervised.upgrade().catch(() => {});
      const victim = dice.pick(
        await supervised.pids().then((pids) => pids.filter((pid) => pid !== undefined)),
      );
      await Promise.race(starting);
      deaths.set(victim, process.hrtime.bigint());
      process.kill(victim, "SIGKILL");
      await Promise.all(living().slice(-4).map(startAll));
      await upgrading;
      await Promise.all([...starting, ...living().slice(-4).map(startAll)]);
      await supervised.settled();
    }
    await supervised.eventually(({ state, predecessors }) => state === "ready" && predecessors.length === 0);
    const answers = (await Promise.all((await supervised.pids()).map(startAll))) as Record<string, number>[];
    const sum = (name: string): number => answers.reduce((all, answer) => all + (answer[name] ?? 0), 0);
    expect([sum("here"), sum("ERR_ELSEWHERE")]).toEqual([1_000, 3_000]);
    expectOneRunAtATime(supervised.service.lines, deaths);
  },
);
