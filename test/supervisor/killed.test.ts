import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as passes } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import type { MessageType } from "../../dist/channel/messages.js";
import type { HandoverError } from "../../dist/errors.js";
import { readStat } from "../../dist/platform/proc.js";
import { Crowd } from "../support/crowd.js";
import { FaultInjector } from "../support/fault-injector.js";
import { freePort } from "../support/port.js";
import { temporaryDirectory } from "../support/service.js";
import { Supervised, type SupervisedOptions } from "../support/supervised.js";

/** A moment of a commit: before the supervisor sends the nth message of a type. */
type Moment = readonly [when: string, type: MessageType, nth: number];

/** In their order. There are two workers, so two messages of a type go to the old or the new ones. */
const MOMENTS: readonly Moment[] = [
  ["before a new worker is started", "hello", 1],
  ["while the new workers start", "hello", 2],
  ["when all new workers are ready", "yield", 1],
  ["while the old workers release the roles", "yield", 2],
  ["when the old workers have released the roles", "cease", 1],
  ["while the old workers cease", "cease", 2],
  ["when the old workers have ceased", "commit", 1],
  ["while the new workers are told to accept", "commit", 2],
  ["when a new worker accepts", "retire", 1],
  ["when both new workers accept", "retire", 2],
  ["when probation is over", "confirmed", 1],
  ["while the workers are confirmed", "confirmed", 3],
];

/** In a rollback, as a new worker dies when it accepts. */
const ROLLBACK: readonly Moment[] = [
  ["when the new workers are dead", "resume", 1],
  ["while the old workers are told to accept again", "resume", 2],
];

const DIES = { at: "accepting", how: "die", generation: 1, index: 1 };

const EACH = [
  ...MOMENTS.map((moment) => [...moment, []] as const),
  ...ROLLBACK.map((moment) => [...moment, [DIES]] as const),
];

test.each(EACH)(
  "a supervisor is killed %s: its workers drain and exit with 1, and the next start succeeds",
  async (_, type, nth, faults) => {
    const port = await freePort();
    const { service: former, injector } = await start(port, faults);
    const held = await holdEach(former, port);
    injector.arm({ process: 0, type, nth, signal: "SIGKILL" });
    await expect(former.upgrade()).rejects.toMatchObject({ code: "ERR_CONTROL" });
    expect(await former.service.exited).toEqual([null, "SIGKILL"]);
    const { service: next } = await start(port, []);
    expect(await next.pids()).toContain(Number(await next.service.ask()));
    for (const socket of held) socket.destroy();
    await former.service.ended();
    const started = new Set(former.service.lines.map(({ pid }) => pid));
    const exits = former.service.lines.filter(({ event }) => event === "exits");
    // With the new worker that dies the other one is killed.
    const killed = faults.length * 2;
    expect(exits.map(({ code }) => code)).toEqual(Array(started.size - killed).fill(1));
    await next.stop();
  },
);

test.each(EACH)(
  "a supervisor is stopped for longer than any limit of a commit %s: the upgrade goes on when it does",
  async (_, type, nth, faults) => {
    const { service, injector } = await start(await freePort(), faults);
    const crowd = new Crowd(service.service, 4);
    await crowd.answered(10);
    const pids = await service.pids();
    injector.arm({ process: 0, type, nth, signal: "SIGSTOP" });
    const { answer } = await service.beginUpgrade();
    const ended = answer.then(
      ({ generation }) => ({ generation }),
      ({ code }: HandoverError) => ({ code }),
    );
    await expect.poll(() => readStat(service.pid)[0], { interval: 20 }).toBe("T");
    await passes(LONGER_THAN_ANY_LIMIT);
    process.kill(service.pid, "SIGCONT");
    const isRollback = faults.length > 0;
    expect(await ended).toEqual(isRollback ? { code: "ERR_ROLLED_BACK" } : { generation: 1 });
    const { generation, workers } = await service.settled();
    expect(generation).toBe(isRollback ? 0 : 1);
    expect(isRollback).toBe(workers!.every(({ pid }, index) => pid === pids[index]));
    await crowd.answered(40);
    await crowd.leave();
    // What a worker had accepted that is killed is lost with it.
    const lost = isRollback ? /ECONNRESET|socket hang up/ : /^$/;
    expect(crowd.failures.filter((failure) => !lost.test(failure))).toEqual([]);
    await service.stop();
  },
);

test("a supervisor is stopped until the time of a new worker is over: one that was ready by then is not late", async () => {
  const faults = [{ at: "start", how: "pause", generation: 1, index: 0 }];
  const { service } = await start(await freePort(), faults, { readyTimeout: READY_TIMEOUT });
  const { answer } = await service.beginUpgrade();
  const { pid } = await service.until("fault");
  process.kill(service.pid, "SIGSTOP");
  process.kill(pid, "SIGUSR2");
  await service.until("ready to accept", { worker: 0, generation: 1 });
  await passes(READY_TIMEOUT);
  process.kill(service.pid, "SIGCONT");
  expect(await answer).toMatchObject({ generation: 1 });
  await service.stop();
});

/** ms */
const READY_TIMEOUT = 10_000;

/** ms. A worker that is silent for 3 s hangs. */
const LONGER_THAN_ANY_LIMIT = 4_000;

async function start(
  port: number,
  faults: readonly object[],
  options: SupervisedOptions = {},
): Promise<{ service: Supervised; injector: FaultInjector }> {
  const injector = new FaultInjector();
  const armed = join(temporaryDirectory(), "armed");
  writeFileSync(armed, "");
  const service = await Supervised.start("supervisor/faulty-worker.js", {
    environment: injector.env,
    probation: 500,
    ...options,
    settings: { port, armed, faults, drainTimeout: 60_000 },
  });
  return { service, injector };
}

/** Connections of which each worker holds one at least, and that never end by themselves. */
async function holdEach({ service, count }: Supervised, port: number): Promise<Socket[]> {
  const held: Socket[] = [];
  onTestFinished(() => held.forEach((socket) => socket.destroy()));
  const holding = (): number =>
    new Set(service.lines.filter(({ event }) => event === "holding").map(({ pid }) => pid)).size;
  while (holding() < count) {
    const from = service.lines.length;
    const socket = connect(port, "127.0.0.1");
    held.push(socket.on("error", () => {}));
    socket.write("GET /hold HTTP/1.1\r\nHost: here\r\n\r\n");
    await service.until("holding", {}, from);
  }
  return held;
}
