import type { CommitFailure } from "./commit-failure.js";
import type {
  CommitEffect,
  CommitEvent,
  CommitPhase,
  CommitPlan,
  CommitState,
  CommitStep,
  CommitUndone,
} from "./commit-types.js";

/**
 * The table of one upgrade of workers: what the supervisor does at each event, from the start of the new workers to the end
 * of their probation. It is pure: the supervisor runs the effects in their order, and reports what happens as events.
 *
 * It passes through starting, yielding, ceasing, committing and probation, all workers in lockstep. A failure leads through
 * killing and resuming to the end. What holds at every moment:
 *
 * - A new worker is told to accept only after every old worker has ceased or died. So one generation accepts.
 * - An old worker is told to accept again only after every new worker is dead. A new one may still accept, and hold the
 *   roles, until then.
 * - An old worker retires only after the new worker of its index has acknowledged the commit: a new worker that hangs from
 *   its start on has taken nothing.
 * - Before the commit every failure leaves the old workers as they were. After it a failure rolls back the upgrade.
 * - Every phase has a timer, so every upgrade ends: as done, failed, rolled back or orphaned.
 * - An event that the phase does not wait for changes nothing: a second answer, a late one, one of an unknown worker.
 *
 * An old worker that dies is not started again before the end: the new worker of its index is to serve instead. If the last
 * one dies before a new one was told to accept, the upgrade ends: the new workers are started like any others.
 */

/** The first step of an upgrade. */
export function beginCommit(plan: CommitPlan): CommitStep {
  const nothing = { awaited: [], committed: [], yielded: [], deadOlds: [] };
  const started = plan.staged ? plan.news : [];
  return start({ plan, phase: "starting", started, ...nothing });
}

/** The step for `event` in `state`. */
export function stepCommit(state: CommitState, event: CommitEvent): CommitStep {
  switch (event.type) {
    case "newDied":
      return buryNew(state, event.index);
    case "oldDied":
      return buryOld(state, event.index);
    case "newHung":
      if (!state.committed.includes(event.index)) return unchanged(state);
      return undo(state, { code: "ERR_UNRESPONSIVE", indexes: [event.index] });
    case "oldHung":
      if (!isAwaited(state, "yielding", event.index)) return unchanged(state);
      return undo(state, { code: "ERR_CEASE_TIMEOUT", indexes: [event.index] });
    case "abort":
      if (state.committed.length > 0) return unchanged(state);
      return undo(state, { code: event.code, indexes: [] });
    case "timeout":
      return event.phase === state.phase ? expire(state) : unchanged(state);
    case "probationOver":
      return state.phase === "probation" ? confirm(state) : unchanged(state);
    case "yielded":
      if (!event.failed || !isAwaited(state, "yielding", event.index)) break;
      return undo(state, { code: "ERR_ROLE", indexes: [event.index] });
    default:
  }
  return answer(state, WAITS_FOR[event.type], event.index);
}

/** The phase that waits for an answer. */
const WAITS_FOR = {
  workerReady: "starting",
  yielded: "yielding",
  ceased: "ceasing",
  acknowledged: "committing",
  resumed: "resuming",
} as const;

const unchanged = (state: CommitState): CommitStep => ({ state, effects: [] });

function isAwaited(state: CommitState, phase: CommitPhase, index: number): boolean {
  return state.phase === phase && state.awaited.includes(index);
}

/** The phase waits for one worker less, and ends with the last. */
function answer(state: CommitState, phase: CommitPhase, index: number): CommitStep {
  if (!isAwaited(state, phase, index)) return unchanged(state);
  const answered = { ...state, awaited: without(state.awaited, index) };
  const retires = phase === "committing" && livingOlds(state).includes(index);
  const effects: CommitEffect[] = retires ? [{ type: "retire", index }] : [];
  return answered.awaited.length > 0 ? { state: answered, effects } : advance(answered, effects);
}

function buryNew(state: CommitState, index: number): CommitStep {
  if (!state.started.includes(index)) return unchanged(state);
  const buried = { ...state, started: without(state.started, index) };
  if (isUndoing(state)) return answer(buried, "killing", index);
  return undo(buried, { code: "ERR_CHILD_EXITED", indexes: [index] });
}

/** A dead worker holds no role and accepts nothing. */
function buryOld(state: CommitState, index: number): CommitStep {
  if (!state.plan.olds.includes(index) || state.deadOlds.includes(index)) return unchanged(state);
  const buried = { ...state, deadOlds: [...state.deadOlds, index] };
  if (state.phase === "starting" && livingOlds(buried).length === 0) return orphan(buried);
  const waitsForOlds = ["yielding", "ceasing", "resuming"].includes(state.phase);
  return waitsForOlds ? answer(buried, state.phase, index) : unchanged(buried);
}

function expire(state: CommitState): CommitStep {
  switch (state.phase) {
    case "starting":
      return undo(state, { code: "ERR_UPGRADE_TIMEOUT", indexes: state.awaited });
    case "yielding":
      return undo(state, { code: "ERR_ROLE", indexes: state.awaited });
    case "ceasing":
      return undo(state, { code: "ERR_CEASE_TIMEOUT", indexes: state.awaited });
    case "committing":
      return undo(state, { code: "ERR_UNRESPONSIVE", indexes: state.awaited });
    case "killing":
      // The kernel does not let a killed process run again, even one that it cannot end yet.
      return resume(state, []);
    case "resuming":
      return endUndone(state, []);
    default:
      return unchanged(state);
  }
}

/** The next phase after one in which every awaited worker has answered. */
function advance(state: CommitState, effects: readonly CommitEffect[]): CommitStep {
  switch (state.phase) {
    case "starting":
      return yieldRoles(state, effects);
    case "yielding":
      return cease(state, effects);
    case "ceasing":
      return commit(state, effects);
    case "committing":
      return beginProbation(state, effects);
    case "killing":
      return resume(state, effects);
    case "resuming":
      return endUndone(state, effects);
    default:
      return { state, effects };
  }
}

/** Begins a phase; one that waits for no worker is over at once. */
function enter(
  state: CommitState,
  phase: CommitPhase,
  awaited: readonly number[],
  effects: readonly CommitEffect[],
): CommitStep {
  const entered = { ...state, phase, awaited };
  if (awaited.length === 0) return advance(entered, effects);
  return { state: entered, effects: [...effects, { type: "setTimer", phase }] };
}

function start(state: CommitState): CommitStep {
  const { news, staged } = state.plan;
  if (staged) return enter(state, "starting", [], []);
  return enter({ ...state, started: news }, "starting", news, [{ type: "start", indexes: news }]);
}

function yieldRoles(state: CommitState, effects: readonly CommitEffect[]): CommitStep {
  const yielded = livingOlds(state);
  return enter({ ...state, yielded }, "yielding", yielded, [...effects, ...tell("yield", yielded)]);
}

function cease(state: CommitState, effects: readonly CommitEffect[]): CommitStep {
  const indexes = livingOlds(state);
  return enter(state, "ceasing", indexes, [...effects, ...tell("cease", indexes)]);
}

function commit(state: CommitState, effects: readonly CommitEffect[]): CommitStep {
  const committed = state.plan.news;
  return enter({ ...state, committed }, "committing", committed, [...effects, ...tell("commit", committed)]);
}

function beginProbation(state: CommitState, effects: readonly CommitEffect[]): CommitStep {
  if (!state.plan.probation) return confirm(state, effects);
  return {
    state: { ...state, phase: "probation" },
    effects: [...effects, { type: "setTimer", phase: "probation" }],
  };
}

function confirm(state: CommitState, effects: readonly CommitEffect[] = []): CommitStep {
  const told = { type: "confirm", news: state.plan.news, olds: livingOlds(state) } as const;
  return {
    state: { ...state, phase: "ended" },
    effects: [...effects, { type: "clearTimer" }, told, { type: "done" }],
  };
}

/** With no worker that serves, a new one must not wait for the others, nor be killed because one of them fails. */
function orphan(state: CommitState): CommitStep {
  const effects = [{ type: "clearTimer" }, { type: "orphaned" }] as const;
  return { state: { ...state, phase: "ended", awaited: [] }, effects };
}

/** Kills every new worker. No old one accepts again before the last of them is dead. */
function undo(state: CommitState, failure: CommitFailure): CommitStep {
  if (isUndoing(state)) return unchanged(state);
  const { started } = state;
  return enter({ ...state, failure }, "killing", started, tell("kill", started));
}

function resume(state: CommitState, effects: readonly CommitEffect[]): CommitStep {
  const indexes = state.yielded.filter((old) => !state.deadOlds.includes(old));
  return enter(state, "resuming", indexes, [...effects, ...tell("resume", indexes)]);
}

function endUndone(state: CommitState, effects: readonly CommitEffect[]): CommitStep {
  const undone: CommitUndone = {
    type: state.committed.length > 0 ? "rolledBack" : "failed",
    failure: state.failure!,
    dead: state.deadOlds,
    silent: state.awaited,
    unkillable: state.started,
  };
  return {
    state: { ...state, phase: "ended", awaited: [] },
    effects: [...effects, { type: "clearTimer" }, undone],
  };
}

function isUndoing({ phase }: CommitState): boolean {
  return phase === "killing" || phase === "resuming" || phase === "ended";
}

function tell(
  type: "yield" | "cease" | "commit" | "kill" | "resume",
  indexes: readonly number[],
): CommitEffect[] {
  return indexes.length > 0 ? [{ type, indexes }] : [];
}

function livingOlds({ plan, deadOlds }: CommitState): number[] {
  return plan.olds.filter((old) => !deadOlds.includes(old));
}

function without(list: readonly number[], index: number): number[] {
  return list.filter((one) => one !== index);
}
