import { readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { HealthChecks } from "../../dist/supervisor/health-checks.js";
import { runHealthCommand } from "../../dist/supervisor/health-command.js";
import { askForPath } from "../../dist/supervisor/health-request.js";
import type { SupervisorSettings } from "../../dist/supervisor/settings.js";
import type { WorkerProcess } from "../../dist/supervisor/worker-process.js";
import { systemClock, type Clock } from "../../dist/util/clock.js";
import { ManualClock } from "../support/fake-env.js";
import { descriptorCount, temporaryDirectory } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

const path = "/health";

const command = (script: string): { command: string[] } => ({ command: ["sh", "-c", script] });

describe("a path of --health", () => {
  test("is asked before a worker accepts, and while it serves", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 2, health: path });
    for (const pid of await service.pids()) {
      const before = Number(await service.tell(pid, "asked"));
      expect(before).toBeGreaterThan(0);
      await expect.poll(async () => service.tell(pid, "asked")).toBeGreaterThan(before);
    }
    await service.stop();
  });

  test("fails the upgrade if a new worker beside healthy ones is sick, and says which path and which answer", async () => {
    const settings = { sick: { worker: 1, generation: 1, code: 503 } };
    const service = await Supervised.start("obeys-work.js", { workers: 2, health: path, settings });
    const olds = await service.pids();
    await expect(service.upgrade()).rejects.toThrow(
      "cannot upgrade: worker 1: it is not healthy: GET /health answered 503 Service Unavailable",
    );
    expect(await service.pids()).toEqual(olds);
    expect(
      service.service.lines.filter(({ generation, event }) => generation === 1 && event === "accepting"),
    ).toEqual([]);
    await service.stop();
  });

  test("fails a rehearsal, too", async () => {
    const settings = { sick: { generation: 1, code: 500 } };
    const service = await Supervised.start("obeys-work.js", { workers: 1, health: path, settings });
    const client = await service.client();
    await expect(client.ask({ command: "rehearse" })).rejects.toThrow("GET /health answered 500");
    await service.stop();
  });

  test("is asked again before workers that are staged are taken: new ones are started in place of a sick one", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 2, health: path });
    await (await service.client()).ask({ command: "stage" });
    const { pid } = await service.until("initialized", { generation: 1, worker: 1 });
    await service.tell(pid, "setHealth", 503);
    expect(await service.upgrade()).toMatchObject({ generation: 1, staged: false });
    expect(await service.pids()).not.toContain(pid);
    await service.stop();
  });

  test("that is not answered at all fails the upgrade", async () => {
    const settings = { sick: { generation: 1, code: 0 } };
    const service = await Supervised.start("obeys-work.js", { workers: 1, health: path, settings });
    await expect(service.upgrade()).rejects.toThrow("GET /health did not answer within 5000 ms");
    await service.stop();
  });

  test("of an unknown listener fails the upgrade, and names those that there are", async () => {
    const service = Supervised.begin("obeys-work.js", { workers: 1, health: "web:/health", restarts: 0 });
    expect(
      await service.service.untilNoise(
        /GET web:\/health answered 501 this worker has no HTTP server "web", but tcp:127.0.0.1:0/,
      ),
    ).toContain("tcp:127.0.0.1:0");
    await service.ends(1);
  });

  test("replaces a worker that stops to be healthy by a new one, and the old one drains", async () => {
    const service = await Supervised.start("obeys-work.js", { workers: 2, health: path, hangTimeout: 500 });
    const [first, second] = await service.pids();
    await service.tell(second!, "setHealth", 503);
    await service.service.untilNoise(/worker 1 \(pid \d+\) is not healthy: GET \/health answered 503/);
    const { workers } = await service.eventually(
      ({ state, workers: [, one] = [] }) => state === "ready" && one!.pid !== second,
    );
    expect(workers![0]!.pid).toBe(first);
    // It was replaced, and did not die.
    expect(workers![1]).toMatchObject({ state: "ready", restarts: 0 });
    await service.until("exited", { pid: second!, outcome: "upgraded" });
    await service.stop();
  });
});

describe("a command of --health", () => {
  test("runs with the index and the PID of the worker, and succeeds with the code 0", async () => {
    const health = command('kill -0 "$HANDOVER_WORKER_PID" && test "$HANDOVER_WORKER" -lt 2');
    const service = await Supervised.start("obeys-work.js", { workers: 2, health });
    expect((await service.replace()).generation).toBe(1);
    await service.stop();
  });

  test("fails the upgrade by any other code, and the error has the last line that it wrote", async () => {
    const script = 'echo first >&2; echo "worker $HANDOVER_WORKER has no database" >&2; test ! -e sick';
    const directory = temporaryDirectory();
    const service = await Supervised.start("obeys-work.js", {
      workers: 1,
      cwd: directory,
      health: command(script),
    });
    writeFileSync(join(directory, "sick"), "");
    await expect(service.upgrade()).rejects.toThrow(
      "it is not healthy: sh exited with 1: worker 0 has no database",
    );
    await service.stop();
  });

  test("is killed after its time, with what it has started", async () => {
    const cwd = temporaryDirectory();
    const health = command("sleep 1000 & echo $! > child; wait");
    const service = Supervised.begin("obeys-work.js", { workers: 1, health, restarts: 0, cwd });
    expect(await service.service.untilNoise(/it is not healthy: sh did .*/)).toContain(
      "not exit within 5000 ms",
    );
    await service.ends(1);
    const child = Number(readFileSync(join(cwd, "child"), "utf8"));
    await expect.poll(() => isRunning(child)).toBe(false);
  });
});

test("a worker that accepts again after a rollback is asked again", async () => {
  const clock = new ManualClock();
  let asked = 0;
  let isServing = true;
  const worker = fakeWorker((fd) => {
    asked++;
    writeSync(fd, "HTTP/1.1 204 No Content\r\n\r\n");
  });
  const settings = { health: { paths: [{ name: undefined, path }] } } as unknown as SupervisorSettings;
  const checks = new HealthChecks(settings, {
    clock,
    isResponding: () => true,
    isServing: () => isServing,
    judged: () => {},
  });
  checks.watch(worker);
  for (const serves of [true, false, true]) {
    isServing = serves;
    clock.advance(5_000);
    // The timer of the next question is set.
    await expect.poll(() => clock.size).toBe(1);
  }
  expect(asked).toBe(2);
});

test("a worker is not taken for sick because the supervisor has no descriptor to ask it", async () => {
  const clock = new ManualClock();
  const judged: unknown[] = [];
  let code: string | undefined = "EMFILE";
  const worker = fakeWorker((fd) => {
    if (code !== undefined) throw Object.assign(new Error("no descriptor is free"), { code });
    writeSync(fd, "HTTP/1.1 503 No\r\n\r\n");
  });
  const settings = { health: { paths: [{ name: undefined, path }] } } as unknown as SupervisorSettings;
  let timers = 0;
  const after: Clock["after"] = (...timer) => (timers++, clock.after(...timer));
  const checks = new HealthChecks(settings, {
    clock: { now: () => clock.now(), after },
    isResponding: () => true,
    isServing: () => true,
    judged: (_, sick) => judged.push(sick),
  });
  checks.watch(worker);
  for (let n = 1; n <= 8; n++) {
    if (n > 5) code = undefined;
    clock.advance(5_000);
    // Each question has a timer, and so has the pause until the next one.
    await expect.poll(() => timers).toBe(1 + 2 * n);
  }
  // After three answers that were the worker's own.
  expect(judged).toEqual([expect.stringMatching(/^GET \/health /)]);
});

test("a worker that cannot be asked costs the supervisor no descriptor", async () => {
  const before = descriptorCount(process.pid);
  const worker = fakeWorker(() => {
    throw new Error("no descriptor is free");
  });
  const settings = {
    command: {},
    readEnv() {
      throw new Error("the file of the environment is gone");
    },
  } as unknown as SupervisorSettings;
  for (let n = 0; n < 5; n++) {
    await expect(askForPath(worker, { name: undefined, path }, 1_000, systemClock)).rejects.toThrow("free");
    expect(await runHealthCommand(settings, ["true"], worker, 1_000)).toContain("environment is gone");
  }
  await expect.poll(() => descriptorCount(process.pid)).toBeLessThanOrEqual(before);
});

/** @param probe is given the descriptor on which the worker answers */
function fakeWorker(probe: (fd: number) => void): WorkerProcess {
  const worker = {
    index: 0,
    pid: process.pid,
    isDead: false,
    dead: new Promise(() => {}),
    probe: (_name: string | undefined, fd: number) => probe(fd),
  };
  return worker as unknown as WorkerProcess;
}

/** Whether a process has memory: one that has ended may wait to be reaped. */
function isRunning(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`).length > 0;
  } catch {
    return false;
  }
}
