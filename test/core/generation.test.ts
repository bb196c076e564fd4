import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Effect } from "../../dist/lifecycle.js";
import { native } from "../../dist/platform/native.js";
import { PEER, Stage, successorOf, until } from "../support/fake-env.js";

/** A process that accepts, without a predecessor. */
async function ready(options = {}): Promise<Stage> {
  const stage = new Stage(options);
  await stage.generation.ready();
  return stage;
}

/** A role that records when it is acquired and released. */
async function role(stage: Stage, log: string[]): Promise<void> {
  await stage.generation.context.processState.roles.add("cron", {
    acquire: () => void log.push("acquire"),
    release: () => void log.push("release"),
  });
}

/** The code with which an upgrade is refused. */
async function refusal(stage: Stage): Promise<unknown> {
  return stage.generation.upgrade(undefined).catch((error: { code: string }) => error.code);
}

/** Stops a process some `microtasks` after the release of its roles for a commit. Resolves with the fate of the successor. */
async function stopDuringCommit(microtasks: number): Promise<string> {
  const stage = await ready({ probation: 1_000 });
  const stopAfter = (left: number): void => {
    if (left === 0) void stage.generation.stop();
    else queueMicrotask(() => stopAfter(left - 1));
  };
  let hasReleased = false;
  await stage.generation.context.processState.roles.add("cron", {
    acquire: () => {},
    release: () => {
      if (!hasReleased) stopAfter(microtasks);
      hasReleased = true;
    },
  });
  const { upgrade } = await stage.startUpgrade();
  stage.successor.ready();
  const result = await upgrade.catch((error: { code: string }) => error.code);
  await stage.generation.exit;
  const how = typeof result === "string" ? result : await Promise.race([result.settled, turn("unsettled")]);
  return `${how}, ${stage.successor.isKilled ? "killed" : "alive"}`;
}

describe("Generation.upgrade", () => {
  test("upgrade() starts a successor, commits when it is ready, and exits when it is confirmed", async () => {
    const stage = await ready({ probation: 1_000 });
    const { settled, ...result } = await stage.commit();
    expect(result).toMatchObject({ pid: PEER, generation: 1 });
    await stage.successor.receives("commit");
    expect(stage.state).toBe("replaced");
    stage.clock.advance(1_000);
    expect(await settled).toBe("confirmed");
    expect(await stage.generation.exit).toBe("upgraded");
    await stage.successor.receives("confirmed");
    expect(stage.events).toEqual(["ready", "upgrading", "upgraded", "draining", "exit"]);
  });

  test("upgrade() stops accepting and releases the roles before the successor can read the commit", async () => {
    const stage = await ready();
    const log: string[] = [];
    await role(stage, log);
    const server = createServer();
    await stage.generation.context.sockets.listen(server, {
      address: { kind: "tcp", host: "127.0.0.1", port: 0, ipv6Only: false },
      name: "web",
      backlog: 16,
      mode: -1,
      signal: undefined,
    });
    expect(server.listening).toBe(true);
    const { upgrade } = await stage.startUpgrade();
    stage.successor.ready();
    await stage.successor.receives("commit");
    expect(log).toEqual(["acquire", "release"]);
    expect(server.listening).toBe(false);
    await upgrade;
  });

  test("upgrade() kills a successor that is not ready within upgradeTimeout, and the process keeps serving", async () => {
    const stage = await ready({ upgradeTimeout: 1_000 });
    const { upgrade } = await stage.startUpgrade();
    stage.clock.advance(1_000);
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_UPGRADE_TIMEOUT" });
    expect(stage.successor.isKilled).toBe(true);
    expect(stage.state).toBe("ready");
    expect(stage.events).toEqual(["ready", "upgrading", "recorded", "failed"]);
  });

  test("upgrade() commits to a successor whose message arrived before upgradeTimeout and was not read yet", async () => {
    const stage = await ready({ upgradeTimeout: 1_000 });
    const { upgrade } = await stage.startUpgrade();
    stage.successor.ready();
    stage.clock.advance(1_000);
    await expect(upgrade).resolves.toMatchObject({ generation: 1 });
  });

  test("upgrade() is refused while another upgrade runs, which succeeds", async () => {
    const stage = await ready();
    const { upgrade } = await stage.startUpgrade();
    await expect(stage.generation.upgrade(undefined)).rejects.toMatchObject({
      code: "ERR_UPGRADE_IN_PROGRESS",
    });
    stage.successor.ready();
    await expect(upgrade).resolves.toMatchObject({ generation: 1 });
    await expect(stage.generation.upgrade(undefined)).rejects.toMatchObject({ code: "ERR_ALREADY_UPGRADED" });
  });

  test("upgrade() is refused before ready(), after a stop, and in PID 1", async () => {
    const starting = new Stage();
    expect(await refusal(starting)).toBe("ERR_NOT_READY");
    await starting.generation.stop();
    expect(await refusal(starting)).toBe("ERR_STOPPED");
    const first = new Stage({}, { pid: 1 });
    await first.generation.ready();
    expect(await refusal(first)).toBe("ERR_PID_1");
    expect(first.successors).toEqual([]);
  });

  test("upgrade() rejects with ERR_SPAWN if no process can be started, and the next one succeeds", async () => {
    const stage = await ready();
    stage.spawnError = new Error("spawn node ENOENT");
    await expect(stage.generation.upgrade(undefined)).rejects.toMatchObject({
      code: "ERR_SPAWN",
      message: "cannot start a successor, node server.js in /: spawn node ENOENT",
    });
    stage.spawnError = undefined;
    await expect(stage.commit()).resolves.toMatchObject({ generation: 1 });
  });

  test("upgrade() rejects with the exit of a successor that died before it was ready", async () => {
    const stage = await ready();
    const { upgrade } = await stage.startUpgrade();
    stage.successor.greet(1);
    stage.successor.exit(3);
    await expect(upgrade).rejects.toMatchObject({
      code: "ERR_CHILD_EXITED",
      message: expect.stringContaining(`the successor (pid ${PEER}) exited with code 3`) as string,
    });
    expect(stage.state).toBe("ready");
  });

  test("upgrade() kills a successor that breaks the protocol", async () => {
    const stage = await ready();
    const { upgrade } = await stage.startUpgrade();
    stage.successor.send({ type: "ready", used: [] });
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_PROTOCOL" });
    expect(stage.successor.isKilled).toBe(true);
  });

  test("upgrade() rejects with ERR_ABORTED when its signal aborts before the commit", async () => {
    const stage = await ready();
    const controller = new AbortController();
    const { upgrade } = await stage.startUpgrade(controller.signal);
    controller.abort();
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_ABORTED" });
    expect(stage.successor.isKilled).toBe(true);
    await expect(stage.generation.upgrade(controller.signal)).rejects.toMatchObject({ code: "ERR_ABORTED" });
    expect(stage.successors).toHaveLength(1);
  });

  test("upgrade() acquires the roles again, once the successor is dead, when a role cannot be released", async () => {
    const stage = await ready();
    const log: string[] = [];
    await role(stage, log);
    await stage.generation.context.processState.roles.add("lock", {
      acquire: () => {},
      release: () => Promise.reject(new Error("still busy")),
    });
    const { upgrade } = await stage.startUpgrade();
    stage.successor.ready();
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_ROLE" });
    expect(stage.successor.isKilled).toBe(true);
    expect(stage.successor.types).not.toContain("commit");
    expect(stage.state).toBe("ready");
    expect(log).toEqual(["acquire"]);
  });

  test("a stop in any microtask of the commit either cancels upgrade() or confirms the successor", async () => {
    const ends = new Set<string>();
    for (let delay = 0; delay < 40; delay++) ends.add(await stopDuringCommit(delay));
    expect(ends).toEqual(new Set(["ERR_STOPPED, killed", "confirmed, alive"]));
  });

  test("exit does not resolve before a candidate that is being started is killed", async () => {
    const stage = await ready();
    let open!: () => void;
    stage.spawnGate = new Promise((resolve) => (open = resolve));
    const upgrade = refusal(stage);
    await until(() => stage.spawns === 1, "the start of a candidate");
    let hasExited = false;
    const stopped = stage.generation.stop().then(() => (hasExited = true));
    await until(() => stage.events.includes("exit"), "the end of the drain");
    for (let n = 0; n < 50; n++) await turn();
    expect(hasExited).toBe(false);
    open();
    expect(await upgrade).toBe("ERR_STOPPED");
    await stopped;
    expect(stage.successor.isKilled).toBe(true);
  });

  test.each(["is late", "is killed because a role cannot be released"])(
    "upgrade() rejects with ERR_UNKILLABLE if a successor that %s does not die, and refuses others until it exits",
    async (why) => {
      const stage = await ready({ upgradeTimeout: 1_000 });
      const isReady = why !== "is late";
      if (isReady) {
        await stage.generation.context.processState.roles.add("lock", {
          acquire: () => {},
          release: () => Promise.reject(new Error("still busy")),
        });
      }
      const { upgrade } = await stage.startUpgrade();
      stage.successor.isUnkillable = true;
      if (isReady) stage.successor.ready();
      else stage.clock.advance(1_000);
      await until(() => stage.successor.isKilled, "the kill");
      stage.clock.advance(5_000);
      await expect(upgrade).rejects.toMatchObject({
        code: "ERR_UNKILLABLE",
        message: `the successor (pid ${PEER}) cannot be killed; no upgrade starts before it has exited`,
      });
      expect(await refusal(stage)).toBe("ERR_UPGRADE_IN_PROGRESS");
      stage.successor.exit(0);
      await stage.reaches("ready");
    },
  );

  test("a stop cancels upgrade(), and kills the successor first", async () => {
    const stage = await ready();
    const { upgrade } = await stage.startUpgrade();
    const stopped = stage.generation.stop();
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_STOPPED" });
    expect(stage.successor.isKilled).toBe(true);
    await stopped;
    expect(stage.events).toEqual(["ready", "upgrading", "draining", "recorded", "failed", "exit"]);
  });

  test("upgrade() starts no successor beyond maxDraining older generations", async () => {
    const { stage, predecessor } = successorOf({ maxDraining: 1, probation: 0 });
    const accepted = stage.generation.ready();
    await predecessor.receives("ready");
    predecessor.send({ type: "commit", predecessors: [] });
    predecessor.send({ type: "confirmed" });
    await accepted;
    await until(
      () => !("onProbation" in stage.generation.state && stage.generation.state.onProbation),
      "the end",
    );
    await expect(stage.generation.upgrade(undefined)).rejects.toMatchObject({
      code: "ERR_TOO_MANY_DRAINING",
    });
    expect(stage.successors).toEqual([]);
  });
});

describe("Generation on the successor's probation", () => {
  test("a predecessor rolls back when its successor dies on probation: it accepts again, with its roles and PID file", async () => {
    const directory = mkdtempSync(join(tmpdir(), "handover-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const pidFile = join(directory, "pid");
    const stage = await ready({ pidFile, controlSocket: false });
    const log: string[] = [];
    await role(stage, log);
    const { settled } = await stage.commit();
    rmSync(pidFile);
    stage.successor.exit(1);
    expect(await settled).toBe("rolledBack");
    await stage.reaches("ready");
    await until(() => log.length === 3, "the role");
    expect(log).toEqual(["acquire", "release", "acquire"]);
    expect(readFileSync(pidFile, "utf8")).toBe("1000\n");
    expect(stage.events.slice(3)).toEqual(["draining", "recorded", "rollback"]);
    expect(stage.generation.context.history.records).toMatchObject([{ outcome: "rolledBack" }]);
  });

  test("a predecessor upgrades again after a rollback, and exits", async () => {
    const stage = await ready({ probation: 1_000 });
    await stage.commit();
    stage.successor.exit(1);
    await stage.reaches("ready");
    const { settled } = await stage.commit();
    stage.clock.advance(1_000);
    expect(await settled).toBe("confirmed");
    expect(await stage.generation.exit).toBe("upgraded");
  });

  test("a rollback leaves no timer behind", async () => {
    const stage = await ready({ probation: 1_000 });
    await stage.commit();
    stage.successor.exit(1);
    await stage.reaches("ready");
    expect(stage.clock.size).toBe(0);
  });

  test("a predecessor stops, and does not roll back, when its successor announces a stop before it dies", async () => {
    const stage = await ready();
    await stage.commit();
    stage.successor.send({ type: "stopping" });
    stage.successor.exit(0);
    expect(await stage.generation.exit).toBe("stopped");
    expect(stage.events).not.toContain("rollback");
  });

  test("a predecessor announces its stop to the successor on probation, and exits as stopped", async () => {
    const stage = await ready();
    const { settled } = await stage.commit();
    await stage.generation.stop();
    await stage.successor.receives("stopping");
    expect(await settled).toBe("confirmed");
    expect(stage.events.at(-1)).toBe("exit");
  });

  test("a predecessor confirms its successor at the commit if probation is 0", async () => {
    const stage = await ready({ probation: 0 });
    const { settled } = await stage.commit();
    expect(await settled).toBe("confirmed");
    expect(await stage.generation.exit).toBe("upgraded");
  });
});

describe("Generation as a successor", () => {
  test("a successor accepts when its predecessor commits, and may upgrade when it is confirmed", async () => {
    const { stage, predecessor } = successorOf({ probation: 1_000 });
    const accepted = stage.generation.ready();
    await predecessor.receives("ready");
    expect(stage.state).toBe("announced");
    predecessor.send({ type: "commit", predecessors: [] });
    await accepted;
    expect(stage.generation.state).toEqual({ name: "ready", onProbation: true });
    await expect(stage.generation.upgrade(undefined)).rejects.toMatchObject({ code: "ERR_ON_PROBATION" });
    predecessor.send({ type: "confirmed" });
    await until(() => JSON.stringify(stage.generation.state).includes("false"), "the confirmation");
    await predecessor.receives("confirmed");
    const { settled } = await stage.commit();
    stage.clock.advance(1_000);
    expect(await settled).toBe("confirmed");
  });

  test("a successor accepts when its predecessor dies before the commit", async () => {
    const { stage, predecessor } = successorOf();
    const accepted = stage.generation.ready();
    await predecessor.receives("ready");
    predecessor.channel.close();
    await accepted;
    expect(stage.generation.state).toEqual({ name: "ready", onProbation: false });
  });

  test("a successor exits when its predecessor lives and does not commit within upgradeTimeout", async () => {
    const { stage, predecessor } = successorOf({ upgradeTimeout: 1_000 });
    const accepted = stage.generation.ready();
    accepted.catch(() => {});
    await predecessor.receives("ready");
    stage.clock.advance(1_000);
    await expect(accepted).rejects.toMatchObject({
      code: "ERR_UPGRADE_TIMEOUT",
      message: `cannot get ready: timed out after 1000 ms waiting for pid ${PEER} to hand over`,
    });
    expect(await stage.generation.exit).toBe("stopped");
    await until(() => predecessor.hasEnded, "the end of the channel");
    expect(stage.events).not.toContain("ready");
  });

  test("a successor never accepts when its predecessor lives and breaks the protocol", async () => {
    const { stage, predecessor } = successorOf();
    const accepted = stage.generation.ready();
    accepted.catch(() => {});
    await predecessor.receives("ready");
    native().send(predecessor.channel.fd, Buffer.from("nonsense"), []);
    await expect(accepted).rejects.toMatchObject({ code: "ERR_PROTOCOL" });
    expect(await stage.generation.exit).toBe("stopped");
  });

  test("a successor of a rehearsal exits with 0, and leaves no file", async () => {
    const directory = mkdtempSync(join(tmpdir(), "handover-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const pidFile = join(directory, "pid");
    const { stage, predecessor } = successorOf({ pidFile, controlSocket: false });
    stage.generation.ready().catch(() => {});
    await predecessor.receives("ready");
    expect(readdirSync(directory)).toEqual([expect.stringMatching(/^pid\.1000\.[0-9a-f]{16}$/)]);
    predecessor.send({ type: "rehearsed" });
    await until(() => stage.exits.length > 0, "the exit");
    expect(stage.exits).toEqual([0]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("a successor stops with its predecessor while it is on probation", async () => {
    const { stage, predecessor } = successorOf();
    const accepted = stage.generation.ready();
    await predecessor.receives("ready");
    predecessor.send({ type: "commit", predecessors: [] });
    await accepted;
    predecessor.send({ type: "stopping" });
    expect(await stage.generation.exit).toBe("stopped");
  });
});

/** For each effect: what breaks it, and the life that runs it. */
type Method = [object: (stage: Stage) => object, name: string];
const context = (stage: Stage): Stage["generation"]["context"] => stage.generation.context;
const BROKEN: [Effect, Method, (stage: Stage) => Promise<unknown>][] = [
  ["closeUnused", [(stage) => context(stage).inventory, "closeUnused"], accepts],
  ["confirm", [(stage) => context(stage).history, "confirm"], accepts],
  ["stopAccepting", [(stage) => context(stage).sockets, "stop"], isReplaced],
  ["beginHandover", [(stage) => context(stage).processState, "beginDrain"], isReplaced],
  ["beginProbation", [(stage) => stage.clock, "after"], isReplaced],
  ["confirmSuccessor", [(stage) => context(stage).sockets, "closeSpares"], isReplaced],
  ["cancelDrain", [(stage) => context(stage).processState, "rollBack"], isRolledBack],
  ["acceptAgain", [(stage) => context(stage).sockets, "resume"], isRolledBack],
  ["reclaimChannels", [(stage) => context(stage).predecessors, "readAgain"], isRolledBack],
  ["reacquireRoles", [(stage) => context(stage).processState.roles, "acquireAll"], isRolledBack],
  ["emitRollback", [(stage) => context(stage).history, "fail"], isRolledBack],
  ["announceStop", [(stage) => context(stage).predecessors, "direct"], isStoppedOnProbation],
  ["stopAccepting", [(stage) => context(stage).sockets, "stop"], isStopped],
  ["closeListeners", [(stage) => context(stage).sockets, "closeSpares"], isStopped],
  ["beginDrain", [(stage) => context(stage).processState, "beginDrain"], isStopped],
  ["exit", [(stage) => context(stage).sockets, "closeAll"], isStopped],
  ["exit", [(stage) => context(stage).connections, "dispose"], isStopped],
];

async function accepts(stage: Stage): Promise<void> {
  expect(stage.state).toBe("ready");
}

async function isReplaced(stage: Stage): Promise<void> {
  const { settled } = await stage.commit();
  await stage.successor.receives("commit");
  stage.clock.advance(60_000);
  expect(await settled).toBe("confirmed");
  expect(await stage.generation.exit).toBe("upgraded");
}

async function isRolledBack(stage: Stage): Promise<void> {
  await stage.commit();
  stage.successor.exit(1);
  await stage.reaches("ready");
  await until(() => stage.events.includes("rollback") || stage.events.includes("failed"), "the rollback");
}

async function isStopped(stage: Stage): Promise<void> {
  await stage.generation.stop();
}

async function isStoppedOnProbation(stage: Stage): Promise<void> {
  await stage.commit();
  await stage.generation.stop();
}

describe("Generation with a step that throws", () => {
  test.each(BROKEN)(
    "the step %s that throws is reported, and the process still accepts or exits",
    async (effect, at, life) => {
      const warning = once(process, "warning") as Promise<[Error & { code: string }]>;
      const stage = new Stage({ probation: 1_000 });
      const [objectOf, name] = at;
      const object = objectOf(stage);
      const original: unknown = (object as Record<string, unknown>)[name];
      let count = 0;
      const broken = (): never => {
        count++;
        throw new Error("broken");
      };
      const isMethod = typeof original === "function";
      const failures: unknown[] = [];
      stage.emitter.on("failed", ({ error }) => failures.push(error));
      if (effect !== "closeUnused" && effect !== "confirm") await stage.generation.ready();
      if (effect === "beginProbation") {
        // The clock is asked twice: for the timeout of the candidate, and for the probation.
        Object.defineProperty(object, name, {
          configurable: true,
          value: (ms: number, run: () => void) =>
            ms === 1_000 ? broken() : (original as Stage["clock"]["after"]).call(object, ms, run),
        });
      } else {
        Object.defineProperty(object, name, {
          configurable: true,
          ...(isMethod ? { value: broken } : { get: () => ({ sendStopping: broken }) }),
        });
      }
      if (effect === "closeUnused" || effect === "confirm") await stage.generation.ready();
      await life(stage);
      delete (object as Record<string, unknown>)[name];
      expect(count).toBe(1);
      expect((await warning)[0]).toMatchObject({
        code: "HANDOVER_STEP",
        message: `the step "${effect}" of this process failed: broken`,
      });
      expect(failures).toMatchObject([{ code: "ERR_INTERNAL", cause: { message: "broken" } }]);
    },
  );

  test.each<[string, Method]>([
    ["of the state", [(stage) => context(stage).processState, "drain"]],
    ["of the history", [(stage) => context(stage).history, "end"]],
  ])("a drain %s that rejects is reported, and the process still exits", async (_, [objectOf, name]) => {
    const stage = await ready();
    const failures: unknown[] = [];
    stage.emitter.on("failed", ({ error }) => failures.push(error));
    Object.defineProperty(objectOf(stage), name, { value: () => Promise.reject(new Error("broken")) });
    await stage.generation.stop();
    expect(failures).toMatchObject([{ code: "ERR_INTERNAL", cause: { message: "broken" } }]);
  });

  test("a report of an event to systemd that throws is a warning, and the process still upgrades", async () => {
    const stage = await ready({ probation: 0 });
    const warning = once(process, "warning") as Promise<[Error & { code: string }]>;
    Object.defineProperty(context(stage).serviceManager, "onEvent", {
      value: () => {
        throw new Error("broken");
      },
    });
    const { settled } = await stage.commit();
    expect(await settled).toBe("confirmed");
    expect(await stage.generation.exit).toBe("upgraded");
    expect((await warning)[0]).toMatchObject({
      code: "HANDOVER_SYSTEMD",
      message: "cannot report to systemd: broken",
    });
  });
});

/** Makes a method throw, once. */
function breakOnce(object: object, name: string): void {
  Object.defineProperty(object, name, {
    configurable: true,
    value: () => {
      delete (object as Record<string, unknown>)[name];
      throw new Error("broken");
    },
  });
}

/** The step that the next warning names. */
async function reported(): Promise<string | undefined> {
  const [warning] = (await once(process, "warning")) as [Error & { code: string }];
  expect(warning.code).toBe("HANDOVER_STEP");
  return /^the step "(\w+)"/.exec(warning.message)?.[1];
}

describe("Generation with a step of its start or its stop that throws", () => {
  test("ready() rejects at once if the predecessor cannot be told, and the process exits", async () => {
    const { stage } = successorOf();
    breakOnce(stage.generation.context.inventory, "reportUsed");
    await expect(stage.generation.ready()).rejects.toMatchObject({
      code: "ERR_INTERNAL",
      message: "cannot get ready: broken",
    });
    expect(await stage.generation.exit).toBe("stopped");
  });

  test("ready() rejects at once if the listeners cannot accept", async () => {
    const stage = new Stage();
    breakOnce(stage.generation.context.sockets, "accept");
    const step = reported();
    await expect(stage.generation.ready()).rejects.toMatchObject({ message: "cannot accept: broken" });
    expect(await step).toBe("accept");
  });

  test("a successor that cannot acknowledge the commit accepts", async () => {
    const { stage, predecessor } = successorOf();
    const accepted = stage.generation.ready();
    await predecessor.receives("ready");
    breakOnce(stage.generation.context.predecessors.direct!, "sendCommitAck");
    const step = reported();
    predecessor.send({ type: "commit", predecessors: [] });
    await accepted;
    expect(await step).toBe("acknowledge");
    expect(stage.state).toBe("ready");
  });

  test("a stop ends a successor that cannot close its channel", async () => {
    const { stage, predecessor } = successorOf();
    stage.generation.ready().catch(() => {});
    await predecessor.receives("ready");
    breakOnce(stage.generation.context.predecessors.direct!, "close");
    const step = reported();
    await stage.generation.stop();
    expect(await step).toBe("leavePredecessor");
  });

  test("a stop ends a process whose candidate cannot be killed by a signal", async () => {
    const stage = await ready();
    await stage.startUpgrade();
    breakOnce(stage.successor, "kill");
    const step = reported();
    await stage.generation.stop();
    expect(await step).toBe("killSuccessor");
  });

  test.each([
    ["restorePidFile", "publish"],
    ["abandonStartup", "discard"],
  ] as const)(
    "the step %s reports a PID file that cannot be written, and the process goes on",
    async (name, method) => {
      const directory = mkdtempSync(join(tmpdir(), "handover-"));
      onTestFinished(() => rmSync(directory, { recursive: true }));
      const stage = await ready({ pidFile: join(directory, "pid"), controlSocket: false });
      const { pidFile } = stage.generation.context;
      if (name === "restorePidFile") await stage.commit();
      breakOnce(pidFile!, method);
      const step = reported();
      if (name === "restorePidFile") {
        stage.successor.exit(1);
        await stage.reaches("ready");
        await until(() => stage.events.includes("rollback"), "the rollback");
      } else await stage.generation.stop();
      expect(await step).toBe(name);
    },
  );
});
