import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { handover, jsonLines, startHandover } from "../support/program.js";
import { openRequest } from "../support/requests.js";
import { Service, temporaryDirectory } from "../support/service.js";

describe("the program", () => {
  test("handover prints its help without a command", async () => {
    const { code, stdout, stderr } = await handover();
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Usage: handover .*upgrade.*status.*stop.*demo.*Exit codes: 0 done/s);
    expect(stderr).toBe("");
  });

  test.each(["--version", "-v"])("handover %s prints the version", async (option) => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(await handover(option)).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });

  test("handover help shows what a command does, by its name or its alias", async () => {
    const [help, ...others] = await Promise.all([
      handover("upgrade", "--help"),
      handover("help", "upgrade"),
      handover("help", "reload"),
      handover("reload", "--help"),
    ]);
    expect(help).toMatchObject({ code: 0, stderr: "" });
    expect(help.stdout).toMatch(/^Usage: handover upgrade\|reload /);
    for (const other of others) expect(other).toEqual(help);
  });

  test.each([
    [["upgarde"], /^handover: unknown command 'upgarde' .*upgrade/],
    [["help", "nonsense"], /^handover: unknown command 'nonsense'\nTry: handover --help\n$/],
    [["help", "upgarde"], /^handover: unknown command 'upgarde' .*upgrade/],
    [["start", "app.js", "--fast"], /^handover: there is no command start: .*handover unit --install/],
    [["help", "start"], /^handover: there is no command start: /],
    [["logs", "-f"], /^handover: there is no command logs: .*journal/],
    [["reload", "--jsn", 1], /^handover: unknown option '--jsn' .*\nTry: handover upgrade --help\n$/],
    [["completion", "csh"], /^handover: .*'csh' is invalid.* bash, zsh, fish/],
    [["list", 1], /^handover: too many arguments/],
    [["upgrade", "--jsn", 1], /^handover: unknown option '--jsn' .*--json/],
    [["status", "x1"], /^handover: .*'x1' is invalid.* whole number/],
    [["status", 1, 2], /^handover: too many arguments/],
    [["stop", 1, "--control", "s"], /^handover: name one process: by its PID, --pid-file or --control\n/],
    [["stop", "--pid-file", "f", "--control", "s"], /^handover: .*cannot be used with/],
    [["upgrade", 1, "--timeout", "soon"], /^handover: .*'soon' is invalid/],
    [["upgrade", 1, "--timeout", 2 ** 31], /'2147483648' is invalid.*at most 2147483647 ms/],
    [["upgrade", 1, "--timeout", "99999999999"], /is invalid.*at most 2147483647 ms/],
    [["stage", 1, "--ttl", "9999h"], /'9999h' is invalid.*at most 2147483647 ms/],
    [["stage", 1, "--ttl", "99999999999999999999h"], /is invalid.*at most 2147483647 ms/],
    [["stage", 1, "--ttl", "0s"], /'0s' is invalid.*at least 1/],
    [["status", "99999999999"], /is invalid.* too large/],
    [["demo", "--upgrades", 0], /^handover: .*'0' is invalid/],
  ])("handover refuses %j as wrong usage", async (args, message) => {
    const { code, stdout, stderr } = await handover(...args);
    expect(stderr).toMatch(message);
    expect([code, stdout]).toEqual([2, ""]);
  });

  test("handover loads only the modules of the command that runs", async () => {
    const hook = new URL("../fixtures/prints-loaded-modules.js", import.meta.url);
    const NODE_OPTIONS = `--import=${hook.href}`;
    const { stderr } = await startHandover(["status", 99_999_999], { NODE_OPTIONS }).ended;
    expect(stderr).toMatch(/\/bin\/handover\.js\n/);
    expect(stderr).not.toContain("/dist/bundle/cli/");
  });

  test("handover exits with code 2 for wrong usage, though no process reads its output", async () => {
    const run = startHandover(["upgarde"]);
    run.leave();
    expect((await run.ended).code).toBe(2);
  });

  test("handover --json prints wrong usage as JSON", async () => {
    const run = await handover("status", 1, "--control", "s", "--json");
    expect(run.code).toBe(2);
    expect(jsonLines(run)).toEqual([
      {
        answer: "failed",
        code: "ERR_OPTION",
        message: expect.stringMatching(/^name one process/) as string,
      },
    ]);
  });
});

describe("handover upgrade", () => {
  test("handover upgrade prints the phases, and exits when the upgrade is confirmed", async () => {
    const service = await startService("http.js");
    const { code, stdout, stderr } = await handover("upgrade", service.pid);
    const { pid } = await service.until("accepting", { generation: 1 });
    expect(stdout).toMatch(
      new RegExp(
        `^upgrading pid ${service.pid}\n +spawned +pid ${pid}, generation 1\n +ready +after .*\n +committed.*\n` +
          ` +draining +0 connections .*\n +probation .*\ndone: pid ${pid} serves as generation 1\n$`,
      ),
    );
    expect([code, stderr]).toEqual([0, ""]);
    expect(await service.exited).toEqual([0, null]);
    expect(service.alive()).toEqual([pid]);
  });

  test("handover upgrade --json prints JSON and nothing else", async () => {
    const service = await startService("http.js");
    const run = await handover("upgrade", service.pid, "--json");
    const { pid } = await service.until("accepting", { generation: 1 });
    expect(run).toMatchObject({ code: 0, stderr: "" });
    expect(jsonLines(run)).toMatchObject([
      { phase: "spawned", pid, generation: 1 },
      { phase: "committed", pid, generation: 1, timings: {} },
      { phase: "draining", connections: 0 },
      { answer: "upgraded", pid, generation: 1, timings: {} },
    ]);
  });

  test.each([
    [
      "exit",
      "ERR_CHILD_EXITED",
      /^the successor \(pid \d+\) exited with code 3; its stderr is a pipe; pid PID keeps serving$/,
    ],
    [
      "die",
      "ERR_ROLLED_BACK",
      /^rolled back: the successor \(pid \d+\) exited with code 4; its stderr is a pipe; pid PID keeps serving$/,
    ],
  ])("handover upgrade prints why it failed if the new code will %s", async (fault, code, message) => {
    const service = await startService("faulty-successor.js", { fault, probation: 60_000 });
    const text = await handover("upgrade", service.pid);
    expect(text.code).toBe(1);
    expect(text.stderr).toMatch(withPid(message, "^handover: ", service.pid));
    await service.until(fault === "die" ? "rollback" : "failed");

    const json = await handover("upgrade", service.pid, "--json");
    expect(json.code).toBe(1);
    expect(jsonLines(json).at(-1)).toEqual({
      answer: "failed",
      code,
      message: expect.stringMatching(withPid(message, "^", service.pid)) as string,
    });
    expect(service.alive()).toEqual([service.pid]);
  });

  test("handover upgrade fails after --timeout", async () => {
    const service = await startService("faulty-successor.js", { fault: "hang" });
    const run = await handover("upgrade", service.pid, "--timeout", 300, "--json");
    expect(run.code).toBe(1);
    expect(run.stderr).toBe(
      `handover: the successor was not ready within 300 ms; pid ${service.pid} keeps serving\n`,
    );
    expect(jsonLines(run).at(-1)).toMatchObject({ answer: "failed", code: "ERR_UPGRADE_TIMEOUT" });
    expect(service.alive()).toEqual([service.pid]);
  });

  test("handover upgrade is refused while another is in progress, and fails if the process is stopped", async () => {
    const service = await startService("faulty-successor.js", { fault: "hang" });
    const first = startHandover(["upgrade", service.pid]);
    await first.untilPrinted(/spawned/);
    const second = await handover("upgrade", service.pid);
    expect(second).toMatchObject({
      code: 1,
      stderr: "handover: cannot upgrade: an upgrade is in progress\n",
    });
    expect(await handover("stop", service.pid)).toMatchObject({ code: 0, stderr: "" });
    expect(await first.ended).toMatchObject({
      code: 1,
      stderr: "handover: cannot upgrade: this process is stopping\n",
    });
    await service.ended();
  });

  test("handover upgrade reports a process that dies before its answer", async () => {
    const service = await startService("faulty-successor.js", { fault: "hang" });
    const upgrade = startHandover(["upgrade", service.pid]);
    await upgrade.untilPrinted(/spawned/);
    process.kill(service.pid, "SIGKILL");
    const { code, stderr } = await upgrade.ended;
    expect(code).toBe(1);
    expect(stderr).toContain(`(pid ${service.pid}) exited without an answer: it crashed or was killed`);
  });
});

describe("the process of a command", () => {
  test("a process is found by its PID, wherever its control socket is", async () => {
    const directory = temporaryDirectory();
    const controlSocket = join(directory, "deep down.control");
    const service = Service.start("http.js", {
      settings: { controlSocket, listen: { path: join(directory, "app.sock") } },
    });
    await service.until("accepting");
    const run = await handover("status", service.pid, "--json");
    expect(jsonLines(run)).toMatchObject([{ pid: service.pid }]);
    expect(jsonLines(await handover("status", "--control", controlSocket, "--json"))).toMatchObject([
      { pid: service.pid },
    ]);
  });

  test("a process is found by its PID file, even if its control socket is elsewhere", async () => {
    const directory = temporaryDirectory();
    const pidFile = join(directory, "app.pid");
    const service = Service.start("http.js", {
      settings: { pidFile, controlSocket: join(directory, "control") },
    });
    await service.until("accepting");
    expect((await handover("status", "--pid-file", pidFile)).stdout).toMatch(
      `pid           ${service.pid}\n`,
    );
  });

  test("a process that is not found is an error that says what to do", async () => {
    const service = Service.start("http.js", { settings: { controlSocket: false } });
    await service.until("accepting");
    const none = await handover("upgrade", service.pid);
    expect(none.code).toBe(1);
    expect(none.stderr).toMatch(
      new RegExp(
        `cannot find a control socket of process ${service.pid}: .*controlSocket: false.*--pid-file or --control`,
      ),
    );
    process.kill(service.pid, "SIGTERM");
    await service.ended();
    const gone = await handover("upgrade", service.pid);
    expect(gone).toEqual({ code: 1, stdout: "", stderr: `handover: there is no process ${service.pid}\n` });
  });

  test.each([
    [undefined, "ERR_PID_FILE", /^cannot read the PID file .*: there is no such file$/],
    ["soon\n", "ERR_PID_FILE", /^the PID file .* contains no PID, but "soon\\n"$/],
    ["2147483647\n", "ERR_PID_FILE", /^process 2147483647, which the PID file .* names, has exited$/],
  ])("a PID file of %j is an error that says what is wrong", async (content, code, message) => {
    const file = join(temporaryDirectory(), "app.pid");
    if (content !== undefined) writeFileSync(file, content);
    const run = await handover("stop", "--pid-file", file, "--json");
    expect(run.code).toBe(1);
    expect(jsonLines(run)).toEqual([
      { answer: "failed", code, message: expect.stringMatching(message) as string },
    ]);
  });
});

test("handover status shows an older generation that still drains", async () => {
  const service = await startService("echoes-body.js", { drainTimeout: 20_000 });
  const request = await openRequest(service);
  expect(await handover("upgrade", service.pid)).toMatchObject({ code: 0, stderr: "" });
  const { pid } = await service.until("accepting", { generation: 1 });

  const run = await handover("status", pid, "--json");
  expect(jsonLines(run)).toMatchObject([
    {
      pid,
      generation: 1,
      state: "ready",
      connections: 0,
      listeners: [
        { name: "tcp:127.0.0.1:0#1", address: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string },
        { name: "handover:control", address: expect.stringMatching(/\.sock$/) as string },
      ],
      predecessors: [
        {
          pid: service.pid,
          generation: 0,
          connections: 1,
          remaining: expect.any(Number) as number,
          drained: false,
        },
      ],
    },
  ]);
  const { code, stdout } = await handover("status", pid);
  expect(code).toBe(0);
  expect(stdout).toMatch(
    new RegExp(
      `^pid +${pid}\ngeneration +1\nstate +ready\nuptime +.*\nversion +.*\ncontrol +/.*\n` +
        `listeners +tcp:127.0.0.1:0#1 \\(127.0.0.1:\\d+\\)\nconnections +0\nmemory +\\d+\\.\\d MiB\n` +
        `predecessors +pid ${service.pid}, generation 0: drains, 0 moved, 1 connection left, .* left\nstaged +none\n` +
        "upgrades +[\\d-]+ [\\d:]+ +generation 0 → 1 +confirmed +.* to the commit\n$",
    ),
  );

  request.end();
  await service.until("exited", { generation: 0, outcome: "upgraded" });
});

test("handover status says that a predecessor has drained, and waits for the end of probation", async () => {
  const service = await startService("http.js", { probation: 60_000 });
  const upgrade = startHandover(["upgrade", service.pid]);
  await upgrade.untilPrinted(/probation/);
  const { pid } = await service.until("accepting", { generation: 1 });
  const read = async (): Promise<unknown> => {
    const [status] = jsonLines(await handover("status", pid, "--json"));
    return (status!["predecessors"] as { drained: boolean }[])[0]!.drained;
  };
  await expect.poll(read).toBe(true);
  expect((await handover("status", pid)).stdout).toMatch(
    `predecessors  pid ${service.pid}, generation 0: has drained, 0 moved, waits until the upgrade is confirmed\n`,
  );
});

test("handover --json rounds times to a tenth of a millisecond", async () => {
  const service = await startService("http.js");
  const upgrade = jsonLines(await handover("upgrade", service.pid, "--json"));
  const { pid } = await service.until("accepting", { generation: 1 });
  const [status] = jsonLines(await handover("status", pid, "--json"));
  const [record] = status!["upgrades"] as { timings: Record<string, number> }[];
  const timings = [...upgrade.slice(1).filter((line) => "timings" in line), record!].map(
    (line) => line["timings"],
  );
  expect(timings).toHaveLength(3);
  for (const one of timings.flatMap((line) => Object.values(line as Record<string, number>))) {
    expect(String(one)).toMatch(/^\d+(\.\d)?$/);
  }
});

describe("handover stop", () => {
  test("handover stop waits until every connection has ended", async () => {
    const service = await startService("echoes-body.js");
    const request = await openRequest(service);
    const stop = startHandover(["stop", service.pid]);
    await stop.untilPrinted(/draining 1 connection\n/);
    request.end();
    expect(await stop.ended).toEqual({
      code: 0,
      stdout: `stopping pid ${service.pid}\n  draining 1 connection\nstopped: no connection had to be destroyed\n`,
      stderr: "",
    });
    await service.ended();
    expect(await service.exited).toEqual([0, null]);
  });

  test("handover stop counts the destroyed connections", async () => {
    const service = await startService("echoes-body.js", { drainTimeout: 1 });
    await openRequest(service);
    const run = await handover("stop", service.pid, "--json");
    expect(run).toMatchObject({ code: 0, stderr: "" });
    expect(jsonLines(run)).toEqual([
      { phase: "draining", connections: 1 },
      { answer: "stopped", outcome: "stopped", destroyed: 1, unsettled: 0, moved: 0, stayed: {}, units: {} },
    ]);
    await service.ended();
  });
});

describe("handover demo", () => {
  test("handover demo loses no request, and leaves no process or file", async () => {
    const TMPDIR = temporaryDirectory();
    const run = await startHandover(["demo", "--upgrades", 2, "--json"], { TMPDIR }).ended;
    expect(run).toMatchObject({ code: 0, stderr: "" });
    const lines = jsonLines(run);
    expect(lines).toMatchObject([
      { upgrade: 1, generation: 1, failed: 0 },
      { upgrade: 2, generation: 2, failed: 0 },
      { answer: "demo", failed: 0, failures: [], upgrades: { count: 2 } },
    ]);
    const { kinds } = lines.at(-1) as { kinds: Record<string, { requests: number }> };
    expect(Object.keys(kinds)).toEqual(["fresh", "keep-alive", "slow", "streaming"]);
    for (const { requests } of Object.values(kinds)) expect(requests).toBeGreaterThan(0);
    expect(readdirSync(TMPDIR)).toEqual([]);
  });

  test("handover demo cleans up if it is interrupted", async () => {
    const TMPDIR = join(temporaryDirectory(), "tmp");
    mkdirSync(TMPDIR);
    const demo = startHandover(["demo"], { TMPDIR });
    const [, port] = /:(\d+)/.exec(await demo.untilPrinted(/http:\S+:\d+/))!;
    await demo.untilPrinted(/upgrade 1 of 10: /);
    demo.kill("SIGINT");
    expect(await demo.ended).toMatchObject({ code: 130, stderr: "handover: interrupted by SIGINT\n" });
    expect(readdirSync(TMPDIR)).toEqual([]);
    const refused = await new Promise<NodeJS.ErrnoException>((refuse) =>
      connect(Number(port), "127.0.0.1").once("error", refuse),
    );
    expect(refused.code).toBe("ECONNREFUSED");
  });
});

/** A service with a PID file, and so a control socket, that is ready. */
async function startService(fixture: string, settings: object = {}): Promise<Service> {
  const pidFile = join(temporaryDirectory(), "app.pid");
  const service = Service.start(fixture, { settings: { pidFile, probation: 200, ...settings } });
  await service.until("accepting");
  return service;
}

function withPid({ source }: RegExp, prefix: string, pid: number): RegExp {
  return new RegExp(source.replace("^", prefix).replace("PID", String(pid)), "m");
}
