import { describe, expect, test } from "vitest";
import { HandoverError } from "../../dist/errors.js";
import type {
  CommitEffect,
  CommitEvent,
  CommitPhase,
  CommitPlan,
  CommitState,
  CommitStep,
} from "../../dist/supervisor/commit-types.js";
import { beginCommit, stepCommit } from "../../dist/supervisor/commit.js";
import { commitError } from "../../dist/supervisor/commit-failure.js";

/** Events of worker 1. In each phase below worker 0 has answered already. */
const events = {
  "workerReady 1": { type: "workerReady", index: 1 },
  "yielded 1": { type: "yielded", index: 1, failed: false },
  "yielded 1, failed": { type: "yielded", index: 1, failed: true },
  "ceased 1": { type: "ceased", index: 1 },
  "acknowledged 1": { type: "acknowledged", index: 1 },
  "resumed 1": { type: "resumed", index: 1 },
  "newDied 1": { type: "newDied", index: 1 },
  "oldDied 1": { type: "oldDied", index: 1 },
  "newHung 1": { type: "newHung", index: 1 },
  "oldHung 1": { type: "oldHung", index: 1 },
  probationOver: { type: "probationOver" },
  abort: { type: "abort", code: "ERR_ABORTED" },
} as const satisfies Record<string, CommitEvent>;
type EventName = keyof typeof events | "timeout";
const eventNames = [...(Object.keys(events) as EventName[]), "timeout"] as const;

const two: CommitPlan = { olds: [0, 1], news: [0, 1], probation: true };

const ready = [of("workerReady", 0), of("workerReady", 1)];
const yielded = [...ready, yielding(0), yielding(1)];
const ceased = [...yielded, of("ceased", 0), of("ceased", 1)];
const acknowledged = [...ceased, of("acknowledged", 0), of("acknowledged", 1)];
const late = [...yielded, of("ceased", 0), timeout("ceasing")];
const gone = [...acknowledged, of("newDied", 0)];

/** What has happened before each state. */
const paths = {
  starting: [of("workerReady", 0)],
  yielding: [...ready, yielding(0)],
  ceasing: [...yielded, of("ceased", 0)],
  committing: [...ceased, of("acknowledged", 0)],
  probation: acknowledged,
  "killing, before the commit": [...late, of("newDied", 0)],
  "resuming, before the commit": [...late, of("newDied", 0), of("newDied", 1), of("resumed", 0)],
  "killing, after the commit": gone,
  "resuming, after the commit": [...gone, of("newDied", 1), of("resumed", 0)],
  done: [...acknowledged, { type: "probationOver" }],
  failed: [...late, of("newDied", 0), of("newDied", 1), of("resumed", 0), of("resumed", 1)],
  "rolled back": [...gone, of("newDied", 1), of("resumed", 0), of("resumed", 1)],
} as const satisfies Record<string, readonly CommitEvent[]>;
type Situation = keyof typeof paths;
const situations = Object.keys(paths) as Situation[];

/** Everything that has an effect or leads to another phase. */
const table: Record<Situation, Partial<Record<EventName, string>>> = {
  starting: {
    "workerReady 1": "yielding: yield 0+1, timer yielding",
    "newDied 1": "killing: kill 0, timer killing",
    abort: "killing: kill 0+1, timer killing",
    timeout: "killing: kill 0+1, timer killing",
  },
  yielding: {
    "yielded 1": "ceasing: cease 0+1, timer ceasing",
    "yielded 1, failed": "killing: kill 0+1, timer killing",
    "newDied 1": "killing: kill 0, timer killing",
    "oldDied 1": "ceasing: cease 0, timer ceasing",
    "oldHung 1": "killing: kill 0+1, timer killing",
    abort: "killing: kill 0+1, timer killing",
    timeout: "killing: kill 0+1, timer killing",
  },
  ceasing: {
    "ceased 1": "committing: commit 0+1, timer committing",
    "newDied 1": "killing: kill 0, timer killing",
    "oldDied 1": "committing: commit 0+1, timer committing",
    abort: "killing: kill 0+1, timer killing",
    timeout: "killing: kill 0+1, timer killing",
  },
  committing: {
    "acknowledged 1": "probation: retire 1, timer probation",
    "newDied 1": "killing: kill 0, timer killing",
    "newHung 1": "killing: kill 0+1, timer killing",
    timeout: "killing: kill 0+1, timer killing",
  },
  probation: {
    "newDied 1": "killing: kill 0, timer killing",
    "newHung 1": "killing: kill 0+1, timer killing",
    probationOver: "ended: clear, confirm 0+1 and 0+1, done",
  },
  "killing, before the commit": {
    "newDied 1": "resuming: resume 0+1, timer resuming",
    timeout: "resuming: resume 0+1, timer resuming",
  },
  "resuming, before the commit": {
    "resumed 1": "ended: clear, failed ERR_CEASE_TIMEOUT 1",
    "oldDied 1": "ended: clear, failed ERR_CEASE_TIMEOUT 1 dead 1",
    timeout: "ended: clear, failed ERR_CEASE_TIMEOUT 1 silent 1",
  },
  "killing, after the commit": {
    "newDied 1": "resuming: resume 0+1, timer resuming",
    timeout: "resuming: resume 0+1, timer resuming",
  },
  "resuming, after the commit": {
    "resumed 1": "ended: clear, rolledBack ERR_CHILD_EXITED 0",
    "oldDied 1": "ended: clear, rolledBack ERR_CHILD_EXITED 0 dead 1",
    timeout: "ended: clear, rolledBack ERR_CHILD_EXITED 0 silent 1",
  },
  done: {},
  failed: {},
  "rolled back": {},
};

describe.each(situations)("an upgrade of two workers that is %s", (situation) => {
  test.each(eventNames)(`an upgrade that is ${situation} has its step for %s`, (name) => {
    const { state } = play(two, paths[situation]);
    const event = name === "timeout" ? timeout(state.phase) : events[name];
    const step = stepCommit(state, event);
    const isStill = step.state.phase === state.phase && step.effects.length === 0;
    expect(isStill ? undefined : inWords(step)).toBe(table[situation][name]);
  });
});

test.each(situations)("an upgrade that is %s ignores late answers and unknown workers", (situation) => {
  const { state } = play(two, paths[situation]);
  const types = [
    "workerReady",
    "ceased",
    "acknowledged",
    "resumed",
    "newDied",
    "oldDied",
    "newHung",
  ] as const;
  const strangers = [...types.map((type) => of(type, 7)), yielding(7), yielding(7, true)];
  const answers = ["workerReady", "ceased", "acknowledged", "resumed"] as const;
  const again = [...answers.map((type) => of(type, 0)), yielding(0), yielding(0, true)];
  const phases: CommitPhase[] = ["starting", "yielding", "ceasing", "committing", "killing", "resuming"];
  const stale = phases.filter((phase) => phase !== state.phase).map((phase) => timeout(phase));
  for (const event of [...strangers, ...again, ...stale]) {
    expect(stepCommit(state, event)).toEqual({ state, effects: [] });
  }
});

describe("the effects of an upgrade, in their order", () => {
  test("of three workers of which two have died: the new ones of these take nothing", () => {
    const plan = { olds: [0], news: [0, 1, 2], probation: false };
    expect(run(plan)).toBe(
      "start 0+1+2, yield 0, cease 0, commit 0+1+2, retire 0, clear, confirm 0+1+2 and 0, done",
    );
  });

  test("of staged workers: they are not started again", () => {
    expect(run({ ...two, probation: false, staged: true })).toBe(
      "yield 0+1, cease 0+1, commit 0+1, retire 0, retire 1, clear, confirm 0+1 and 0+1, done",
    );
  });

  test("of staged workers that fail: all of them are killed", () => {
    expect(run({ ...two, staged: true }, [yielding(0, true)])).toBe(
      "yield 0+1, kill 0+1, resume 0+1, clear, failed ERR_ROLE 0",
    );
  });

  test("of workers that are all dead: the new ones accept when all are ready", () => {
    expect(run({ ...two, olds: [], probation: false })).toBe(
      "start 0+1, commit 0+1, clear, confirm 0+1 and , done",
    );
  });

  test("of workers that all die while the new ones start: it ends, and the new ones live", () => {
    expect(run(two, [of("oldDied", 0), of("workerReady", 0), of("oldDied", 1)])).toBe(
      "start 0+1, clear, orphaned",
    );
  });

  test("of one worker of several: the others have no part", () => {
    expect(run({ olds: [2], news: [2], probation: false })).toBe(
      "start 2, yield 2, cease 2, commit 2, retire 2, clear, confirm 2 and 2, done",
    );
  });

  test("that fails: a killed worker that does not die is waited for no longer than the timer", () => {
    const path = [...yielded, of("ceased", 0), of("newDied", 0), timeout("killing")];
    const { effects } = play(two, path);
    expect(effects.map(inWord).slice(-2)).toEqual(["resume 0+1", "timer resuming"]);
    expect(
      play(two, [...path, of("resumed", 0), of("resumed", 1)])
        .effects.map(inWord)
        .at(-1),
    ).toBe("failed ERR_CHILD_EXITED 0 unkillable 1");
  });

  test("that fails: an old worker that has died is not told to accept, and is named", () => {
    expect(run(two, [...yielded, of("ceased", 0), of("oldDied", 0), of("newDied", 1)])).toBe(
      "start 0+1, yield 0+1, cease 0+1, kill 0, resume 1, clear, failed ERR_CHILD_EXITED 1 dead 0",
    );
  });
});

test.each([
  ["ERR_STOPPED", [], "cannot upgrade: the service is being stopped"],
  ["ERR_ABORTED", [], "cannot upgrade: the upgrade was aborted"],
  ["ERR_CHILD_EXITED", [1], "cannot upgrade: the new process of worker 1 has died"],
  [
    "ERR_UPGRADE_TIMEOUT",
    [1, 2],
    "cannot upgrade: the new process of the workers 1, 2 was not ready in time",
  ],
  ["ERR_ROLE", [1], "cannot upgrade: worker 1 did not release the roles"],
  ["ERR_CEASE_TIMEOUT", [0, 1], "cannot upgrade: the workers 0, 1 did not stop accepting in time"],
  ["ERR_UNRESPONSIVE", [3], "cannot upgrade: the new process of worker 3 did not respond, and was killed"],
] as const)("a failure with %s of the workers %j has its message", (code, indexes, message) => {
  const cause = new Error("exit code 3");
  expect(commitError({ code, indexes })).toMatchObject({ code, message });
  expect(commitError({ code, indexes }, cause)).toMatchObject({ message: `${message}: exit code 3`, cause });
});

test.each([
  ["ERR_CHILD_EXITED", "ERR_UNHEALTHY", "cannot upgrade: worker 1: it is late"],
  ["ERR_ABORTED", "ERR_UPGRADE_TIMEOUT", "cannot upgrade: it is late"],
  ["ERR_ABORTED", "ERR_ABORTED", "cannot upgrade: it is late"],
] as const)("a failure with %s whose cause has %s has the code of its cause", (code, why, message) => {
  const cause = new HandoverError(why, "it is late");
  expect(commitError({ code, indexes: [1] }, cause)).toMatchObject({ code: why, message, cause });
});

/** All steps of an upgrade. */
function play(
  plan: CommitPlan,
  path: readonly CommitEvent[],
): { state: CommitState; effects: CommitEffect[] } {
  const begun = beginCommit(plan);
  let { state } = begun;
  const effects = [...begun.effects];
  for (const event of path) {
    const step = stepCommit(state, event);
    state = step.state;
    effects.push(...step.effects);
  }
  return { state, effects };
}

type Simple = Extract<CommitEvent, { index: number }>["type"];

function of(type: Exclude<Simple, "yielded">, index: number): CommitEvent {
  return { type, index };
}

function yielding(index: number, failed = false): CommitEvent {
  return { type: "yielded", index, failed };
}

function timeout(phase: CommitPhase): CommitEvent {
  return { type: "timeout", phase };
}

function inWords({ state, effects }: CommitStep): string {
  return `${state.phase}: ${effects.map(inWord).join(", ")}`;
}

function inWord(effect: CommitEffect): string {
  switch (effect.type) {
    case "retire":
      return `retire ${effect.index}`;
    case "confirm":
      return `confirm ${joined(effect.news)} and ${joined(effect.olds)}`;
    case "setTimer":
      return `timer ${effect.phase}`;
    case "clearTimer":
      return "clear";
    case "done":
    case "orphaned":
      return effect.type;
    case "failed":
    case "rolledBack": {
      const { type, failure, dead, silent, unkillable } = effect;
      const rest = Object.entries({ dead, silent, unkillable }).filter(([, indexes]) => indexes.length > 0);
      const also = rest.map(([what, indexes]) => ` ${what} ${joined(indexes)}`).join("");
      return `${type} ${failure.code} ${joined(failure.indexes)}${also}`;
    }
    default:
      return `${effect.type} ${joined(effect.indexes)}`;
  }
}

/** The effects from number `from` on, if after `path` every worker does at once what it is told. */
function run(plan: CommitPlan, path: readonly CommitEvent[] = [], from = 0): string {
  const begun = play(plan, path);
  let { state } = begun;
  const effects = [...begun.effects];
  // What came before was answered by the path, as far as it was.
  for (let n = 0; n < effects.length; n++) {
    for (const event of answersTo(effects[n]!)) {
      const step = stepCommit(state, event);
      state = step.state;
      effects.push(...step.effects);
    }
  }
  const words = effects.slice(from).map(inWord);
  return words
    .map((word) => word.replace("timer probation", "probation"))
    .filter((word) => !word.startsWith("timer"))
    .join(", ");
}

const ANSWERS = {
  start: "workerReady",
  cease: "ceased",
  commit: "acknowledged",
  kill: "newDied",
  resume: "resumed",
} as const;

function answersTo(effect: CommitEffect): CommitEvent[] {
  switch (effect.type) {
    case "yield":
      return effect.indexes.map((index) => yielding(index));
    case "start":
    case "cease":
    case "commit":
    case "kill":
    case "resume":
      return effect.indexes.map((index) => of(ANSWERS[effect.type], index));
    case "setTimer":
      return effect.phase === "probation" ? [{ type: "probationOver" }] : [];
    default:
      return [];
  }
}

function joined(indexes: readonly number[]): string {
  return indexes.join("+");
}
