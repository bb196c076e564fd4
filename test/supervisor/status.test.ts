import { describe, expect, test } from "vitest";
import { handover, jsonLines, startHandover } from "../support/program.js";
import { openRequest } from "../support/requests.js";
import { Supervised } from "../support/supervised.js";

/** The words of each line of a table. */
function cells(lines: string): string[][] {
  return lines
    .trimEnd()
    .split("\n")
    .map((line) => line.trim().split(/ {2,}/));
}

/** A worker of the first generation that has no connection. */
function row(index: number, pid = 0): unknown[] {
  return [
    ...[index, pid, 0].map(String),
    "ready",
    "0",
    expect.stringMatching(/^\d+\.\d MiB$/),
    expect.stringMatching(/^[\d.]+ m?s$/),
    "0",
  ];
}

describe("handover status", () => {
  test("handover status shows each worker of a supervisor, and nothing without a meaning", async () => {
    const supervised = await Supervised.start("http.js", { name: "shop" });
    const [first, second] = await supervised.pids();
    const { code, stdout, stderr } = await handover("status", supervised.pid);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(
      new RegExp(`^pid +${supervised.pid}\nname +shop\ngeneration +0\nstate +ready\nuptime `),
    );
    expect(stdout).toMatch(
      /\nconnections +0\nmemory +[\d.]+ MiB\ntotals +2 of 2 workers accept, [\d.]+ MiB, /,
    );
    const [, text] = stdout.split(/\nworkers +/);
    const [header, ...rows] = cells(text!);
    const names = "index pid generation state connections memory CPU restarts roles";
    expect(header).toEqual(names.split(" "));
    // The first that is ready holds the roles.
    expect(rows.map((words) => words.slice(0, 8))).toEqual([row(0, first), row(1, second)]);
    expect(rows.flatMap((words) => words.slice(8))).toEqual(["held"]);
    expect(stdout).not.toMatch(/predecessors|staged|none/);
  });

  test("handover status shows why a worker was started again, and how upgrades have ended", async () => {
    const supervised = await Supervised.start("http.js");
    const [first = 0] = await supervised.pids();
    process.kill(first, "SIGKILL");
    await supervised.eventually(
      ({ workers: [one] = [] }) => one?.restarts === 1 && one.state === "ready" && one.pid !== first,
    );
    await supervised.replace();
    const { stdout } = await handover("status", supervised.pid);
    const [header, worker] = cells(stdout.split(/\nworkers +/)[1]!);
    expect(header).toContain("last exit");
    expect(worker!.slice(7, 9)).toEqual(["1", expect.stringMatching(/SIGKILL/)]);
    expect(stdout).toMatch(/\n +upgrades: 1 confirmed, 0 rolled back, 0 failed\n/);
    const [status] = jsonLines(await handover("status", supervised.pid, "--json"));
    expect(status).toMatchObject({
      generation: 1,
      workers: [
        { index: 0, generation: 1, restarts: 1, lastExit: expect.any(String) as string },
        { index: 1 },
      ],
      totals: { upgrades: { confirmed: 1, rolledBack: 0, failed: 0 } },
      settings: { probation: 100 },
      command: { words: [process.execPath, expect.stringMatching(/http\.js$/), expect.any(String)] },
    });
  });

  test("handover status --watch follows the upgrades of a supervisor", async () => {
    const supervised = await Supervised.start("http.js");
    const watch = startHandover(["status", supervised.pid, "--watch", 0.1]);
    await watch.untilPrinted(/\nworkers +index/);
    await supervised.replace();
    await watch.untilPrinted(/\ngeneration +1\n/);
    watch.kill("SIGINT");
    expect(await watch.ended).toMatchObject({ stderr: "" });
  });

  test("handover status of a worker names the supervisor that answers for it", async () => {
    const supervised = await Supervised.start("http.js");
    const [, second = 0] = await supervised.pids();
    expect(await handover("status", second)).toEqual({
      code: 1,
      stdout: "",
      stderr: `handover: process ${second} is worker 1 of a service, and its supervisor, process ${supervised.pid}, answers for it\n`,
    });
  });
});

describe("the commands of an upgrade", () => {
  test("handover upgrade says how many new workers there are, and what they are about", async () => {
    const supervised = await Supervised.start("http.js");
    const { pid } = supervised;
    const run = await handover("upgrade", pid);
    expect(run.stdout).toMatch(
      new RegExp(
        `^upgrading pid ${pid}\n +spawned +2 new workers, generation 1\n +ready +after .*\n` +
          ` +committed +new connections go to the new workers\n +draining +0 connections of the old workers\n` +
          ` +probation +if a new worker dies now, the old workers take over again\n` +
          `done: 2 new workers of pid ${pid} serve as generation 1\n$`,
      ),
    );
    expect([run.code, run.stderr]).toEqual([0, ""]);
    const lines = jsonLines(await handover("upgrade", pid, "--json"));
    expect(lines).toMatchObject([
      { phase: "spawned", pid, generation: 2, workers: 2 },
      { phase: "worker-ready", ready: 1, workers: 2 },
      { phase: "worker-ready", ready: 2, workers: 2 },
      { phase: "committed", pid, generation: 2, workers: 2, staged: false },
      { phase: "draining", connections: 0 },
      { answer: "upgraded", pid, generation: 2, workers: 2, staged: false },
    ]);
  });

  test("handover upgrade --dry-run, stage and unstage name the new workers", async () => {
    const supervised = await Supervised.start("http.js");
    const { pid } = supervised;
    expect((await handover("upgrade", pid, "--dry-run")).stdout).toMatch(
      new RegExp(
        `^dry run for pid ${pid}\n +spawned +2 new workers, generation 1\n +ready .*\ndry run passed: .*\n$`,
      ),
    );
    expect((await handover("stage", pid)).stdout).toMatch(/\nstaged: 2 new workers are ready, and wait /);
    expect((await handover("status", pid)).stdout).toMatch(/\nstaged +2 workers, generation 1: .* left\n/);
    expect((await handover("unstage", pid)).stdout).toBe("unstaged: 2 new workers were told to exit\n");
    const [staged] = jsonLines(await handover("stage", pid, "--json")).slice(-1);
    expect(staged).toMatchObject({ answer: "staged", pid, generation: 1, workers: 2 });
    const lines = jsonLines(await handover("upgrade", pid, "--json"));
    expect(lines[0]).toMatchObject({ phase: "spawned", workers: 2, staged: true });
    expect(lines.at(-1)).toMatchObject({ answer: "upgraded", workers: 2, staged: true });
  });
});

describe("handover stop", () => {
  test("handover stop sums how the connections of all workers have ended", async () => {
    const supervised = await Supervised.start("echoes-body.js", { settings: { drainTimeout: 100 } });
    for (let n = 0; n < 3; n++) await openRequest(supervised.service);
    await supervised.eventually(({ connections }) => connections === 3);
    const lines = jsonLines(await handover("stop", supervised.pid, "--json"));
    expect(lines).toMatchObject([
      { phase: "draining", connections: 3 },
      { answer: "stopped", outcome: "stopped", destroyed: 3, moved: 0, unsettled: 0, units: {} },
    ]);
    await supervised.ends(0);
  });

  test("handover stop counts the connections of a worker that had to be killed as destroyed", async () => {
    const supervised = await Supervised.start("echoes-body.js", {
      stopTimeout: 300,
      settings: { drainTimeout: 60_000 },
    });
    await openRequest(supervised.service);
    await supervised.eventually(({ connections }) => connections === 1);
    const { stdout } = await handover("stop", supervised.pid);
    expect(stdout).toMatch(/ {2}draining 1 connection\nstopped: 1 connection was still open/);
    await supervised.ends(0);
  });
});
