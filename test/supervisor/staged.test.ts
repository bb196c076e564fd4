import { describe, expect, test } from "vitest";
import { askAtOnce } from "../support/at-once.js";
import { Supervised } from "../support/supervised.js";

const start = async (): Promise<Supervised> => Supervised.start("obeys-work.js", { workers: 2 });

const startRolling = async (probation: number): Promise<Supervised> =>
  Supervised.start("obeys-work.js", { workers: 2, rolling: 1, probation });

/** Stages new workers, and returns their PIDs by index. */
async function stage(service: Supervised, ttl = 60_000): Promise<number[]> {
  const from = service.service.lines.length;
  await (await service.client()).ask({ command: "stage", ttl });
  const each = [0, 1].map(async (worker) => service.until("initialized", { worker }, from));
  return (await Promise.all(each)).map(({ pid }) => pid);
}

/** Sees that the supervisor and the workers that serve are all there is, and stops it. */
async function finish(service: Supervised): Promise<void> {
  const serving = [service.pid, ...(await service.pids())].toSorted((a, b) => a - b);
  await expect.poll(() => service.service.alive().toSorted((a, b) => a - b)).toEqual(serving);
  await service.stop();
}

describe("of requests to a supervisor that come at once one is performed, and the others are refused", () => {
  test.each([
    ["stage", "stage"],
    ["stage", "rehearse"],
    ["upgrade", "stage"],
    ["upgrade", "upgrade"],
  ] as const)("%s and %s", async (...commands) => {
    const service = await start();
    const answers = await askAtOnce(service.pid, service.controlSocket, ...commands);
    const done = answers.filter((answer) => "answer" in answer);
    expect(done).toHaveLength(1);
    expect(answers).toContainEqual({ code: "ERR_UPGRADE_IN_PROGRESS" });
    await (await service.client()).ask({ command: "unstage" });
    await finish(service);
  });

  test("an unstage and an upgrade: the staged workers are not used, and others are started", async () => {
    const service = await start();
    const staged = await stage(service);
    const answers = await askAtOnce(service.pid, service.controlSocket, "unstage", "upgrade");
    expect(answers).toMatchObject([{ answer: "unstaged" }, { answer: "upgraded", staged: false }]);
    const pids = await service.pids();
    expect(pids.filter((pid) => staged.includes(pid))).toEqual([]);
    await finish(service);
  });
});

describe("of staged workers one", () => {
  test("that is stopped by SIGSTOP is not used: an upgrade ends all of them, and starts others", async () => {
    const service = await start();
    const [first] = await stage(service);
    process.kill(first!, "SIGSTOP");
    expect(await service.upgrade()).toMatchObject({ generation: 1, staged: false });
    await finish(service);
  });

  test("that is stopped by SIGSTOP is killed with the others when their time is over", async () => {
    const service = await start();
    const [, second] = await stage(service, 3_000);
    process.kill(second!, "SIGSTOP");
    expect(await service.eventually(({ staged }) => staged === undefined)).toMatchObject({ generation: 0 });
    await finish(service);
  });

  test("that is killed takes the others with it, and the next upgrade starts others", async () => {
    const service = await start();
    const [, second] = await stage(service);
    process.kill(second!, "SIGKILL");
    await service.eventually(({ staged }) => staged === undefined);
    expect(await service.upgrade()).toMatchObject({ staged: false });
    await finish(service);
  });
});

describe("with --rolling 1 staged workers", () => {
  test("are used, one batch after the other", async () => {
    const service = await startRolling(100);
    const staged = await stage(service);
    expect(await service.upgrade()).toMatchObject({ generation: 1, staged: true });
    expect(await service.pids()).toEqual(staged);
    await finish(service);
  });

  test("of a later batch that have died meanwhile are replaced by others", async () => {
    const service = await startRolling(3_000);
    const staged = await stage(service);
    const { answer } = await service.beginUpgrade();
    await service.until("accepting", { generation: 1, worker: 0 });
    process.kill(staged[1]!, "SIGKILL");
    await answer;
    const [first, second] = await service.pids();
    expect(first).toBe(staged[0]);
    expect(staged).not.toContain(second);
    await finish(service);
  });

  test("of a later batch end with an upgrade that fails before", async () => {
    const service = await startRolling(30_000);
    const olds = await service.pids();
    const staged = await stage(service);
    const { answer } = await service.beginUpgrade();
    await service.until("accepting", { generation: 1, worker: 0 });
    process.kill(staged[0]!, "SIGKILL");
    await expect(answer).rejects.toThrow(/worker 0 has died/);
    await service.settled();
    expect(await service.pids()).toEqual(olds);
    await finish(service);
  });

  test("of a later batch end with a service that is stopped", async () => {
    const service = await startRolling(30_000);
    await stage(service);
    const { answer } = await service.beginUpgrade();
    const ended = answer.catch((error: Error) => error);
    await service.until("accepting", { generation: 1, worker: 0 });
    process.kill(service.pid, "SIGTERM");
    await service.service.ended();
    expect(await ended).toBeInstanceOf(Error);
    expect(service.service.alive()).toEqual([]);
  });
});

test("staged workers end with a supervisor that is told to stop, also one that is stopped by SIGSTOP", async () => {
  const service = await start();
  const [first] = await stage(service);
  process.kill(first!, "SIGSTOP");
  await service.stop();
  expect(service.service.alive()).toEqual([]);
});

test("staged workers end with a supervisor that is killed, and never accept", async () => {
  const service = await start();
  const staged = await stage(service);
  process.kill(service.pid, "SIGKILL");
  await service.service.ended();
  expect(service.service.alive()).toEqual([]);
  expect(
    service.service.lines.filter(({ event, pid }) => event === "accepting" && staged.includes(pid)),
  ).toEqual([]);
});

test("staged workers are not used when the number of workers has changed since", async () => {
  const service = await start();
  await stage(service);
  await service.scale(3);
  expect(await service.upgrade()).toMatchObject({ workers: 3, staged: false });
  await finish(service);
});
