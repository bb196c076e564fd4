import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Effect } from "../../dist/lifecycle.js";
import { native } from "../../dist/platform/native.js";
import { PEER, DrivenProcess, successorOf, until } from "../support/fake-env.js";

/** A process that accepts, without a predecessor. */
async function ready(options = {}): Promise<DrivenProcess> {
  const driven = new DrivenProcess(options);
  await driven.generation.ready();
  return driven;
}

/** A role that records when it is acquired and released. */
async function role(driven: DrivenProcess, log: string[]): Promise<void> {
  await driven.generation.context.processState.roles.add("cron", {
    acquire: () => void log.push("acquire"),
    release: () => void log.push("release"),
  });
}

/** The code with which an upgrade is refused. */
async function refusal(driven: DrivenProcess): Promise<unknown> {
  return driven.generation.upgrade(undefined).catch((error: { code: string }) => error.code);
}

/** Stops a process some `microtasks` after the release of its roles for a commit. Resolves with the fate of the successor. */
async function stopDuringCommit(microtasks: number): Promise<string> {
  const driven = await ready({ probation: 1_000 });
  const stopAfter = (left: number): void => {
    if (left === 0) void driven.generation.stop();
    else queueMicrotask(() => stopAfter(left - 1));
  };
  let hasReleased = false;
  await driven.generation.context.processState.roles.add("cron", {
    acquire: () => {},
    release: () => {
      if (!hasReleased) stopAfter(microtasks);
      hasReleased = true;
    },
  });
  const { upgrade } = await driven.startUpgrade();
  driven.successor.ready();
  const result = await upgrade.catch((error: { code: string }) => error.code);
  await driven.generation.exit;
  const how = typeof result === "string" ? result : await Promise.race([result.settled, turn("unsettled")]);
  return `${how}, ${driven.successor.isKilled ? "killed" : "alive"}`;
}

describe("Generation.upgrade", () => {
  test("upgrade() starts a successor, commits when it is ready, and exits when it is confirmed", async () => {
    const driven = await ready({ probation: 1_000 });
    const { settled, ...result } = await driven.commit();
    expect(result).toMatchObject({ pid: PEER, generation: 1 });
    await driven.successor.receives("commit");
    expect(driven.state).toBe("replaced");
    driven.clock.advance(1_000);
    expect(await settled).toBe("confirmed");
    expect(await driven.generation.exit).toBe("upgraded");
    await driven.successor.receives("confirmed");
    expect(driven.events).toEqual(["ready", "upgrading", "upgraded", "draining", "exit"]);
  });

  test("upgrade() stops accepting and releases the roles before the successor can read the commit", async () => {
    const driven = await ready();
    const log: string[] = [];
    await role(driven, log);
    const server = createServer();
    await driven.generation.context.sockets.listen(server, {
      address: { kind: "tcp", host: "127.0.0.1", port: 0, ipv6Only: false },
      name: "web",
      backlog: 16,
      mode: -1,
      signal: undefined,
    });
    expect(server.listening).toBe(true);
    const { upgrade } = await driven.startUpgrade();
    driven.successor.ready();
    await driven.successor.receives("commit");
    expect(log).toEqual(["acquire", "release"]);
    expect(server.listening).toBe(false);
    await upgrade;
  });

  test("upgrade() kills a successor that is not ready within upgradeTimeout, and the process keeps serving", async () => {
    const driven = await ready({ upgradeTimeout: 1_000 });
    const { upgrade } = await driven.startUpgrade();
    driven.clock.advance(1_000);
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_UPGRADE_TIMEOUT" });
    expect(driven.successor.isKilled).toBe(true);
    expect(driven.state).toBe("ready");
    expect(driven.events).toEqual(["ready", "upgrading", "recorded", "failed"]);
  });

  test("upgrade() commits to a successor whose message arrived before upgradeTimeout and was not read yet", async () => {
    const driven = await ready({ upgradeTimeout: 1_000 });
    const { upgrade } = await driven.startUpgrade();
    driven.successor.ready();
    driven.clock.advance(1_000);
    await expect(upgrade).resolves.toMatchObject({ generation: 1 });
  });

  test("upgrade() is refused while another upgrade runs, which succeeds", async () => {
    const driven = await ready();
    const { upgrade } = await driven.startUpgrade();
    await expect(driven.generation.upgrade(undefined)).rejects.toMatchObject({
      code: "ERR_UPGRADE_IN_PROGRESS",
    });
    driven.successor.ready();
    await expect(upgrade).resolves.toMatchObject({ generation: 1 });
    await expect(driven.generation.upgrade(undefined)).rejects.toMatchObject({
      code: "ERR_ALREADY_UPGRADED",
    });
  });

  test("upgrade() is refused before ready(), after a stop, and in PID 1", async () => {
    const starting = new DrivenProcess();
    expect(await refusal(starting)).toBe("ERR_NOT_READY");
    await starting.generation.stop();
    expect(await refusal(starting)).toBe("ERR_STOPPED");
    const first = new DrivenProcess({}, { pid: 1 });
    await first.generation.ready();
    expect(await refusal(first)).toBe("ERR_PID_1");
    expect(first.successors).toEqual([]);
  });

  test("upgrade() rejects with ERR_SPAWN if no process can be started, and the next one succeeds", async () => {
    const driven = await ready();
    driven.spawnError = new Error("spawn node ENOENT");
    await expect(driven.generation.upgrade(undefined)).rejects.toMatchObject({
      code: "ERR_SPAWN",
      message: "cannot start a successor, node server.js in /: spawn node ENOENT",
    });
    driven.spawnError = undefined;
    await expect(driven.commit()).resolves.toMatchObject({ generation: 1 });
  });

  test("upgrade() rejects with the exit of a successor that died before it was ready", async () => {
    const driven = await ready();
    const { upgrade } = await driven.startUpgrade();
    driven.successor.greet(1);
    driven.successor.exit(3);
    await expect(upgrade).rejects.toMatchObject({
      code: "ERR_CHILD_EXITED",
      message: expect.stringContaining(`the successor (pid ${PEER}) exited with code 3`) as string,
    });
    expect(driven.state).toBe("ready");
  });

  test("upgrade() kills a successor that breaks the protocol", async () => {
    const driven = await ready();
    const { upgrade } = await driven.startUpgrade();
    driven.successor.send({ type: "ready", used: [] });
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_PROTOCOL" });
    expect(driven.successor.isKilled).toBe(true);
  });

  test("upgrade() rejects with ERR_ABORTED when its signal aborts before the commit", async () => {
    const driven = await ready();
    const controller = new AbortController();
    const { upgrade } = await driven.startUpgrade(controller.signal);
    controller.abort();
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_ABORTED" });
    expect(driven.successor.isKilled).toBe(true);
    await expect(driven.generation.upgrade(controller.signal)).rejects.toMatchObject({ code: "ERR_ABORTED" });
    expect(driven.successors).toHaveLength(1);
  });

  test("upgrade() acquires the roles again, once the successor is dead, when a role cannot be released", async () => {
    const driven = await ready();
    const log: string[] = [];
    await role(driven, log);
    await driven.generation.context.processState.roles.add("lock", {
      acquire: () => {},
      release: () => Promise.reject(new Error("still busy")),
    });
    const { upgrade } = await driven.startUpgrade();
    driven.successor.ready();
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_ROLE" });
    expect(driven.successor.isKilled).toBe(true);
    expect(driven.successor.types).not.toContain("commit");
    expect(driven.state).toBe("ready");
    expect(log).toEqual(["acquire"]);
  });

  test("a stop in any microtask of the commit either cancels upgrade() or confirms the successor", async () => {
    const ends = new Set<string>();
    for (let delay = 0; delay < 40; delay++) ends.add(await stopDuringCommit(delay));
    expect(ends).toEqual(new Set(["ERR_STOPPED, killed", "confirmed, alive"]));
  });

  test("exit does not resolve before a candidate that is being started is killed", async () => {
    const driven = await ready();
    let open!: () => void;
    driven.spawnGate = new Promise((resolve) => (open = resolve));
    const upgrade = refusal(driven);
    await until(() => driven.spawns === 1, "the start of a candidate");
    let hasExited = false;
    const stopped = driven.generation.stop().then(() => (hasExited = true));
    await until(() => driven.events.includes("exit"), "the end of the drain");
    for (let n = 0; n < 50; n++) await turn();
    expect(hasExited).toBe(false);
    open();
    expect(await upgrade).toBe("ERR_STOPPED");
    await stopped;
    expect(driven.successor.isKilled).toBe(true);
  });

  test.each(["is late", "is killed because a role cannot be released"])(
    "upgrade() rejects with ERR_UNKILLABLE if a successor that %s does not die, and refuses others until it exits",
    async (why) => {
      const driven = await ready({ upgradeTimeout: 1_000 });
      const isReady = why !== "is late";
      if (isReady) {
        await driven.generation.context.processState.roles.add("lock", {
          acquire: () => {},
          release: () => Promise.reject(new Error("still busy")),
        });
      }
      const { upgrade } = await driven.startUpgrade();
      driven.successor.isUnkillable = true;
      if (isReady) driven.successor.ready();
      else driven.clock.advance(1_000);
      await until(() => driven.successor.isKilled, "the kill");
      driven.clock.advance(5_000);
      await expect(upgrade).rejects.toMatchObject({
        code: "ERR_UNKILLABLE",
        message: `the successor (pid ${PEER}) cannot be killed; no upgrade starts before it has exited`,
      });
      expect(await refusal(driven)).toBe("ERR_UPGRADE_IN_PROGRESS");
      driven.successor.exit(0);
      await driven.reaches("ready");
    },
  );

  test("a stop cancels upgrade(), and kills the successor first", async () => {
    const driven = await ready();
    const { upgrade } = await driven.startUpgrade();
    const stopped = driven.generation.stop();
    await expect(upgrade).rejects.toMatchObject({ code: "ERR_STOPPED" });
    expect(driven.successor.isKilled).toBe(true);
    await stopped;
    expect(driven.events).toEqual(["ready", "upgrading", "draining", "recorded", "failed", "exit"]);
  });

  test("upgrade() starts no successor beyond maxDraining older generations", async () => {
    const { driven, predecessor } = successorOf({ maxDraining: 1, probation: 0 });
    const accepted = driven.generation.ready();
    await predecessor.receives("ready");
    predecessor.send({ type: "commit", predecessors: [] });
    predecessor.send({ type: "confirmed" });
    await accepted;
    await until(
      () => !("onProbation" in driven.generation.state && driven.generation.state.onProbation),
      "the end",
    );
    await expect(driven.generation.upgrade(undefined)).rejects.toMatchObject({
      code: "ERR_TOO_MANY_DRAINING",
    });
    expect(driven.successors).toEqual([]);
  });
});

describe("Generation on the successor's probation", () => {
  test("a predecessor rolls back when its successor dies on probation: it accepts again, with its roles and PID file", async () => {
    const directory = mkdtempSync(join(tmpdir(), "handover-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const pidFile = join(directory, "pid");
    const driven = await ready({ pidFile, controlSocket: false });
    const log: string[] = [];
    await role(driven, log);
    const { settled } = await driven.commit();
    rmSync(pidFile);
    driven.successor.exit(1);
    expect(await settled).toBe("rolledBack");
    await driven.reaches("ready");
    await until(() => log.length === 3, "the role");
    expect(log).toEqual(["acquire", "release", "acquire"]);
    expect(readFileSync(pidFile, "utf8")).toBe("1000\n");
    expect(driven.events.slice(3)).toEqual(["draining", "recorded", "rollback"]);
    expect(driven.generation.context.history.records).toMatchObject([{ outcome: "rolledBack" }]);
  });

  test("a predecessor upgrades again after a rollback, and exits", async () => {
    const driven = await ready({ probation: 1_000 });
    await driven.commit();
    driven.successor.exit(1);
    await driven.reaches("ready");
    const { settled } = await driven.commit();
    driven.clock.advance(1_000);
    expect(await settled).toBe("confirmed");
    expect(await driven.generation.exit).toBe("upgraded");
  });

  test("a rollback leaves no timer behind", async () => {
    const driven = await ready({ probation: 1_000 });
    await driven.commit();
    driven.successor.exit(1);
    await driven.reaches("ready");
    expect(driven.clock.size).toBe(0);
  });

  test("a predecessor stops, and does not roll back, when its successor announces a stop before it dies", async () => {
    const driven = await ready();
    await driven.commit();
    driven.successor.send({ type: "stopping" });
    driven.successor.exit(0);
    expect(await driven.generation.exit).toBe("stopped");
    expect(driven.events).not.toContain("rollback");
  });

  test("a predecessor announces its stop to the successor on probation, and exits as stopped", async () => {
    const driven = await ready();
    const { settled } = await driven.commit();
    await driven.generation.stop();
    await driven.successor.receives("stopping");
    expect(await settled).toBe("confirmed");
    expect(driven.events.at(-1)).toBe("exit");
  });

  test("a predecessor confirms its successor at the commit if probation is 0", async () => {
    const driven = await ready({ probation: 0 });
    const { settled } = await driven.commit();
    expect(await settled).toBe("confirmed");
    expect(await driven.generation.exit).toBe("upgraded");
  });
});

describe("Generation as a successor", () => {
  test("a successor accepts when its predecessor commits, and may upgrade when it is confirmed", async () => {
    const { driven, predecessor } = successorOf({ probation: 1_000 });
    const accepted = driven.generation.ready();
    await predecessor.receives("ready");
    expect(driven.state).toBe("announced");
    predecessor.send({ type: "commit", predecessors: [] });
    await accepted;
    expect(driven.generation.state).toEqual({ name: "ready", onProbation: true });
    await expect(driven.generation.upgrade(undefined)).rejects.toMatchObject({ code: "ERR_ON_PROBATION" });
    predecessor.send({ type: "confirmed" });
    await until(() => JSON.stringify(driven.generation.state).includes("false"), "the confirmation");
    await predecessor.receives("confirmed");
    const { settled } = await driven.commit();
    driven.clock.advance(1_000);
    expect(await settled).toBe("confirmed");
  });

  test("a successor accepts when its predecessor dies before the commit", async () => {
    const { driven, predecessor } = successorOf();
    const accepted = driven.generation.ready();
    await predecessor.receives("ready");
    predecessor.channel.close();
    await accepted;
    expect(driven.generation.state).toEqual({ name: "ready", onProbation: false });
  });

  test("a successor exits when its predecessor lives and does not commit within upgradeTimeout", async () => {
    const { driven, predecessor } = successorOf({ upgradeTimeout: 1_000 });
    const accepted = driven.generation.ready();
    accepted.catch(() => {});
    await predecessor.receives("ready");
    driven.clock.advance(1_000);
    await expect(accepted).rejects.toMatchObject({
      code: "ERR_UPGRADE_TIMEOUT",
      message: `cannot get ready: timed out after 1000 ms waiting for pid ${PEER} to hand over`,
    });
    expect(await driven.generation.exit).toBe("stopped");
    await until(() => predecessor.hasEnded, "the end of the channel");
    expect(driven.events).not.toContain("ready");
  });

  test("a successor never accepts when its predecessor lives and breaks the protocol", async () => {
    const { driven, predecessor } = successorOf();
    const accepted = driven.generation.ready();
    accepted.catch(() => {});
    await predecessor.receives("ready");
    native().send(predecessor.channel.fd, Buffer.from("nonsense"), []);
    await expect(accepted).rejects.toMatchObject({ code: "ERR_PROTOCOL" });
    expect(await driven.generation.exit).toBe("stopped");
  });

  test("a successor of a rehearsal exits with 0, and leaves no file", async () => {
    const directory = mkdtempSync(join(tmpdir(), "handover-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const pidFile = join(directory, "pid");
    const { driven, predecessor } = successorOf({ pidFile, controlSocket: false });
    driven.generation.ready().catch(() => {});
    await predecessor.receives("ready");
    expect(readdirSync(directory)).toEqual([expect.stringMatching(/^pid\.1000\.[0-9a-f]{16}$/)]);
    predecessor.send({ type: "rehearsed" });
    await until(() => driven.exits.length > 0, "the exit");
    expect(driven.exits).toEqual([0]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("a successor stops with its predecessor while it is on probation", async () => {
    const { driven, predecessor } = successorOf();
    const accepted = driven.generation.ready();
    await predecessor.receives("ready");
    predecessor.send({ type: "commit", predecessors: [] });
    await accepted;
    predecessor.send({ type: "stopping" });
    expect(await driven.generation.exit).toBe("stopped");
  });
});

/** For each effect: what breaks it, and the life that runs it. */
type Method = [object: (driven: DrivenProcess) => object, name: string];
const context = (driven: DrivenProcess): DrivenProcess["generation"]["context"] => driven.generation.context;
const BROKEN: [Effect, Method, (driven: DrivenProcess) => Promise<unknown>][] = [
  ["closeUnused", [(driven) => context(driven).inventory, "closeUnused"], accepts],
  ["confirm", [(driven) => context(driven).predecessors, "sendConfirmed"], accepts],
  ["stopAccepting", [(driven) => context(driven).sockets, "stop"], isReplaced],
  ["beginHandover", [(driven) => context(driven).processState, "beginDrain"], isReplaced],
  ["beginProbation", [(driven) => driven.clock, "after"], isReplaced],
  ["confirmSuccessor", [(driven) => context(driven).sockets, "closeSpares"], isReplaced],
  ["cancelDrain", [(driven) => context(driven).processState, "rollBack"], isRolledBack],
  ["acceptAgain", [(driven) => context(driven).sockets, "resume"], isRolledBack],
  ["reclaimChannels", [(driven) => context(driven).predecessors, "readAgain"], isRolledBack],
  ["reacquireRoles", [(driven) => context(driven).processState.roles, "acquireAll"], isRolledBack],
  ["emitRollback", [(driven) => context(driven).history, "fail"], isRolledBack],
  ["announceStop", [context, "controlLink"], isStoppedOnProbation],
  ["stopAccepting", [(driven) => context(driven).sockets, "stop"], isStopped],
  ["closeListeners", [(driven) => context(driven).sockets, "closeSpares"], isStopped],
  ["beginDrain", [(driven) => context(driven).processState, "beginDrain"], isStopped],
  ["exit", [(driven) => context(driven).sockets, "closeAll"], isStopped],
  ["exit", [(driven) => context(driven).connections, "dispose"], isStopped],
];

async function accepts(driven: DrivenProcess): Promise<void> {
  expect(driven.state).toBe("ready");
}

async function isReplaced(driven: DrivenProcess): Promise<void> {
  const { settled } = await driven.commit();
  await driven.successor.receives("commit");
  driven.clock.advance(60_000);
  expect(await settled).toBe("confirmed");
  expect(await driven.generation.exit).toBe("upgraded");
}

async function isRolledBack(driven: DrivenProcess): Promise<void> {
  await driven.commit();
  driven.successor.exit(1);
  await driven.reaches("ready");
  await until(() => driven.events.includes("rollback") || driven.events.includes("failed"), "the rollback");
}

async function isStopped(driven: DrivenProcess): Promise<void> {
  await driven.generation.stop();
}

async function isStoppedOnProbation(driven: DrivenProcess): Promise<void> {
  await driven.commit();
  await driven.generation.stop();
}

describe("Generation with a step that throws", () => {
  test.each(BROKEN)(
    "the step %s that throws is reported, and the process still accepts or exits",
    async (effect, at, life) => {
      const warning = once(process, "warning") as Promise<[Error & { code: string }]>;
      const driven = new DrivenProcess({ probation: 1_000 });
      const [objectOf, name] = at;
      const object = objectOf(driven);
      const original: unknown = (object as Record<string, unknown>)[name];
      let count = 0;
      const broken = (): never => {
        count++;
        throw new Error("broken");
      };
      const isMethod = typeof original === "function";
      const failures: unknown[] = [];
      driven.emitter.on("failed", ({ error }) => failures.push(error));
      if (effect !== "closeUnused" && effect !== "confirm") await driven.generation.ready();
      if (effect === "beginProbation") {
        // The clock is asked twice: for the timeout of the candidate, and for the probation.
        Object.defineProperty(object, name, {
          configurable: true,
          value: (ms: number, run: () => void) =>
            ms === 1_000 ? broken() : (original as DrivenProcess["clock"]["after"]).call(object, ms, run),
        });
      } else {
        Object.defineProperty(object, name, {
          configurable: true,
          ...(isMethod ? { value: broken } : { get: () => ({ sendStopping: broken }) }),
        });
      }
      if (effect === "closeUnused" || effect === "confirm") await driven.generation.ready();
      await life(driven);
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
    ["of the state", [(driven) => context(driven).processState, "drain"]],
    ["of the history", [(driven) => context(driven).history, "end"]],
  ])("a drain %s that rejects is reported, and the process still exits", async (_, [objectOf, name]) => {
    const driven = await ready();
    const failures: unknown[] = [];
    driven.emitter.on("failed", ({ error }) => failures.push(error));
    Object.defineProperty(objectOf(driven), name, { value: () => Promise.reject(new Error("broken")) });
    await driven.generation.stop();
    expect(failures).toMatchObject([{ code: "ERR_INTERNAL", cause: { message: "broken" } }]);
  });

  test("a report of an event to systemd that throws is a warning, and the process still upgrades", async () => {
    const driven = await ready({ probation: 0 });
    const warning = once(process, "warning") as Promise<[Error & { code: string }]>;
    Object.defineProperty(context(driven).serviceManager, "onEvent", {
      value: () => {
        throw new Error("broken");
      },
    });
    const { settled } = await driven.commit();
    expect(await settled).toBe("confirmed");
    expect(await driven.generation.exit).toBe("upgraded");
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
    const { driven } = successorOf();
    breakOnce(driven.generation.context.inventory, "reportUsed");
    await expect(driven.generation.ready()).rejects.toMatchObject({
      code: "ERR_INTERNAL",
      message: "cannot get ready: broken",
    });
    expect(await driven.generation.exit).toBe("stopped");
  });

  test("ready() rejects at once if the listeners cannot accept", async () => {
    const driven = new DrivenProcess();
    breakOnce(driven.generation.context.sockets, "accept");
    const step = reported();
    await expect(driven.generation.ready()).rejects.toMatchObject({ message: "cannot accept: broken" });
    expect(await step).toBe("accept");
  });

  test("a successor that cannot acknowledge the commit accepts", async () => {
    const { driven, predecessor } = successorOf();
    const accepted = driven.generation.ready();
    await predecessor.receives("ready");
    breakOnce(driven.generation.context.predecessors.direct!, "sendCommitAck");
    const step = reported();
    predecessor.send({ type: "commit", predecessors: [] });
    await accepted;
    expect(await step).toBe("acknowledge");
    expect(driven.state).toBe("ready");
  });

  test("a stop ends a successor that cannot close its channel", async () => {
    const { driven, predecessor } = successorOf();
    driven.generation.ready().catch(() => {});
    await predecessor.receives("ready");
    breakOnce(driven.generation.context.predecessors.direct!, "leave");
    const step = reported();
    await driven.generation.stop();
    expect(await step).toBe("leavePredecessor");
  });

  test("a stop ends a process whose candidate cannot be killed by a signal", async () => {
    const driven = await ready();
    await driven.startUpgrade();
    breakOnce(driven.successor, "kill");
    const step = reported();
    await driven.generation.stop();
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
      const driven = await ready({ pidFile: join(directory, "pid"), controlSocket: false });
      const { pidFile } = driven.generation.context;
      if (name === "restorePidFile") await driven.commit();
      breakOnce(pidFile!, method);
      const step = reported();
      if (name === "restorePidFile") {
        driven.successor.exit(1);
        await driven.reaches("ready");
        await until(() => driven.events.includes("rollback"), "the rollback");
      } else await driven.generation.stop();
      expect(await step).toBe(name);
    },
  );
});
