import { expect, test } from "vitest";
import { expectOneHolderAtATime } from "../support/one-at-a-time.js";
import type { Line } from "../support/service.js";
import { Supervised, type SupervisedOptions } from "../support/supervised.js";

const start = (settings: object = {}, options: SupervisedOptions = {}): Promise<Supervised> =>
  Supervised.start("obeys-roles.js", { ...options, settings: { roles: ["a", "b"], ...settings } });

/** Of the worker that holds the roles, as the supervisor says. */
async function holderOf(supervised: Supervised): Promise<{ index: number; pid: number }> {
  const { workers } = await supervised.eventually(({ workers: all = [] }) =>
    all.some(({ roles }) => roles === true),
  );
  const { index, pid } = workers!.find(({ roles }) => roles === true)!;
  return { index, pid: pid! };
}

/** What a process did with its roles: `acquired a`, `released b`. */
function story({ service }: Supervised, pid: number): string[] {
  const lines = service.lines.filter((line) => line.pid === pid && /^(acquired|released)$/.test(line.event));
  return lines.map(({ event, role }) => `${event} ${String(role)}`);
}

const ALL = ["acquired a", "acquired b"];

const ofRole = ({ service }: Supervised, role: string): Line[] =>
  service.lines.filter((line) => line["role"] === role);

/** The first line of this event after `from` lines, for the role that is acquired last. */
async function next(
  supervised: Supervised,
  event: string,
  from: number,
  fields: Partial<Line> = {},
): Promise<Line> {
  return supervised.until(event, { role: "b", ...fields }, from);
}

test("one worker holds all roles, and role() resolves in the others, which hold none", async () => {
  const supervised = await start({}, { workers: 3 });
  const { pid } = await holderOf(supervised);
  for (const one of await supervised.pids()) expect(story(supervised, one)).toEqual(one === pid ? ALL : []);
  expectOneHolderAtATime(supervised.service.lines);
});

test("a role that is added later is acquired by the worker that holds the roles, before role() resolves", async () => {
  const supervised = await start();
  const { pid } = await holderOf(supervised);
  for (const one of await supervised.pids()) {
    await supervised.tell(one, "add", "c");
    expect(story(supervised, one)).toEqual(one === pid ? [...ALL, "acquired c"] : []);
  }
});

test("when the holder is killed the ready worker of the lowest index acquires the roles, and keeps them", async () => {
  const supervised = await start({}, { workers: 3 });
  const deaths = new Map<number, bigint>();
  for (let n = 0; n < 3; n++) {
    const { index, pid } = await holderOf(supervised);
    const from = supervised.service.lines.length;
    const ready = (await supervised.workers()).map((one) => one.index).filter((one) => one !== index);
    deaths.set(pid, process.hrtime.bigint());
    process.kill(pid, "SIGKILL");
    const { worker } = await next(supervised, "acquired", from);
    expect(worker).toBe(Math.min(...ready));
    await supervised.eventually(
      ({ workers = [] }) => workers[index]!.state === "ready" && workers[index]!.pid !== pid,
    );
    expect((await holderOf(supervised)).index).toBe(worker);
  }
  expectOneHolderAtATime(supervised.service.lines, deaths);
});

test("a holder that hangs is killed before another worker acquires the roles", async () => {
  const supervised = await start({}, { hangTimeout: 1_000 });
  const { pid } = await holderOf(supervised);
  const from = supervised.service.lines.length;
  process.kill(pid, "SIGSTOP");
  const { pid: other } = await next(supervised, "acquired", from);
  expect(other).not.toBe(pid);
  expect(supervised.service.alive()).not.toContain(pid);
});

test("a worker that cannot acquire a role releases the others, and the next one acquires them all", async () => {
  const supervised = await start({}, { workers: 3 });
  const { pid } = await holderOf(supervised);
  const [unable] = (await supervised.pids()).filter((one) => one !== pid);
  await supervised.tell(unable!, "fail", "acquire", "b");
  const from = supervised.service.lines.length;
  const deaths = new Map([[pid, process.hrtime.bigint()]]);
  process.kill(pid, "SIGKILL");
  const { pid: other } = await next(supervised, "acquired", from);
  expect([pid, unable]).not.toContain(other);
  expect(story(supervised, unable!)).toEqual(["acquired a", "released a"]);
  expect(story(supervised, other)).toEqual(ALL);
  expect(await holderOf(supervised)).toMatchObject({ pid: other });
  const why = new RegExp(`pid ${unable}\\) does not hold the roles: .*thrown by the test`);
  expect(await supervised.service.untilNoise(why)).toBeTruthy();
  expectOneHolderAtATime(ofRole(supervised, "a"), deaths);
});

test("after every worker has failed to acquire a role, they are asked again", async () => {
  const each = { 0: { acquire: { b: "throw" } } };
  const supervised = Supervised.begin("obeys-roles.js", {
    settings: { each, roles: ["a", "b"], staysAlive: true },
  });
  await next(supervised, "acquired", 0);
  const failed = supervised.service.lines.filter(({ event, role }) => event === "acquire" && role === "b");
  expect(failed).toHaveLength(3);
  expect(
    await supervised.service.untilNoise(
      /worker \d \(pid \d+\) does not hold the roles: .*thrown by the test/,
    ),
  ).toBeTruthy();
  expectOneHolderAtATime(ofRole(supervised, "a"));
});

test("an upgrade moves the roles to the new worker of the holder's index, between release and commit", async () => {
  const supervised = await start();
  const old = await holderOf(supervised);
  await supervised.replace();
  const { index, pid } = await holderOf(supervised);
  expect(index).toBe(old.index);
  expect(story(supervised, old.pid)).toEqual([...ALL, "released b", "released a"]);
  expect(story(supervised, pid)).toEqual(ALL);
  expectOneHolderAtATime(supervised.service.lines);
});

test("an upgrade fails if the holder does not release a role in time, and the holder has all of them again", async () => {
  const supervised = await start({ each: { 0: { release: { a: "throw" } } }, timeout: 1_000 });
  const { pid } = await holderOf(supervised);
  await expect(supervised.upgrade()).rejects.toMatchObject({ code: "ERR_ROLE" });
  await next(
    supervised,
    "acquired",
    supervised.service.lines.findIndex(({ event }) => event === "released"),
  );
  expect(story(supervised, pid)).toEqual([...ALL, "released b", "acquired b"]);
  expect(await holderOf(supervised)).toMatchObject({ pid });
  await supervised.replace();
  expectOneHolderAtATime(supervised.service.lines);
});

test("while new workers start another old worker acquires the roles of a holder that dies", async () => {
  const supervised = await start({ each: { 1: { waits: true } } });
  const { pid } = await holderOf(supervised);
  const upgrade = supervised.upgrade();
  const waiting = await Promise.all(
    [0, 1].map(async (worker) => supervised.until("started", { generation: 1, worker })),
  );
  const from = supervised.service.lines.length;
  const deaths = new Map([[pid, process.hrtime.bigint()]]);
  process.kill(pid, "SIGKILL");
  expect(await next(supervised, "acquired", from)).toMatchObject({ generation: 0 });
  for (const one of waiting) process.kill(one.pid, "SIGUSR2");
  await upgrade;
  await next(supervised, "acquired", from, { generation: 1 });
  expectOneHolderAtATime(supervised.service.lines, deaths);
});

test("fences grow through a rollback and the death of the worker that has the roles again", async () => {
  const supervised = await start({}, { probation: 20_000 });
  const { pid } = await holderOf(supervised);
  const upgrade = supervised.upgrade();
  const taken = await next(supervised, "acquired", 0, { generation: 1 });
  const deaths = new Map([[taken.pid, process.hrtime.bigint()]]);
  const from = supervised.service.lines.length;
  process.kill(taken.pid, "SIGKILL");
  await expect(upgrade).rejects.toMatchObject({ code: "ERR_ROLLED_BACK" });
  await next(supervised, "acquired", from, { pid });
  await supervised.settled();
  const later = supervised.service.lines.length;
  deaths.set(pid, process.hrtime.bigint());
  process.kill(pid, "SIGKILL");
  await next(supervised, "acquired", later);
  expectOneHolderAtATime(supervised.service.lines, deaths);
});
