import { HandoverError, type ErrorCode } from "./errors.js";

/**
 * The states of one process of the service, and the events that change them. This table alone decides; core/generation.ts
 * dispatches the events and runs the effects, in their order.
 */
export type State =
  /** The program initializes. */
  | { readonly name: "starting" }
  /** The program is ready; the predecessor has to commit. */
  | { readonly name: "announced" }
  /** This process accepts. On probation its predecessor can still take over again. */
  | { readonly name: "ready"; readonly onProbation: boolean }
  /** This process accepts, and its successor initializes. */
  | { readonly name: "upgrading" }
  /** The successor was told to accept, and is on probation. Once it has acknowledged, this process drains. */
  | { readonly name: "replaced"; readonly acknowledged: boolean; readonly drained: boolean }
  /** This process drains, and a rollback is impossible. */
  | { readonly name: "draining"; readonly outcome: Outcome }
  | { readonly name: "exited"; readonly outcome: Outcome };

export type Outcome = "upgraded" | "stopped";

export type Event =
  /** The program called `ready()`. */
  | "ready"
  /** The predecessor has committed, or is dead, or there is none. */
  | "mayAccept"
  /** The predecessor can no longer take over again. */
  | "confirmed"
  /** An upgrade is requested. */
  | "upgrade"
  /** The successor was ready and has been told to accept. */
  | "committed"
  /** The successor has acknowledged the commit, or cannot. */
  | "acknowledged"
  /** The upgrade failed before its commit, and the successor is dead. */
  | "failed"
  /** The upgrade was a rehearsal, and the successor is dead. */
  | "rehearsed"
  /** The successor is ready, and is held for a later upgrade. */
  | "staged"
  /** The successor's probation is over. */
  | "probationOver"
  /** The successor died on probation. */
  | "successorDied"
  /** This process is asked to stop. */
  | "stop"
  /** The process at the other end of the channel announced that it stops. During a probation both stop. */
  | "peerStopping"
  /** The drain is over. */
  | "drained";

export type Effect =
  /** Tell the predecessor that this process is ready. */
  | "sendReady"
  /** Accept on every listener, and acquire the roles. */
  | "accept"
  /** Acknowledge the commit, and send heartbeats until this process is confirmed. */
  | "acknowledge"
  /** Close the inherited descriptors that this process does not use. */
  | "closeUnused"
  /** This process can no longer be rolled back: release the resources that were kept for a rollback. */
  | "confirm"
  /** Keep the descriptors that the program closes from now on: the successor inherits them. */
  | "lendDescriptors"
  /** There is no successor: close the descriptors that the program has closed meanwhile. */
  | "reclaimDescriptors"
  /** Kill the successor, which is not ready yet. */
  | "killSuccessor"
  /** Kill the successor that is held for a later upgrade. */
  | "killStaged"
  /** Stop accepting, at once. */
  | "stopAccepting"
  /** Emit `upgraded`. */
  | "emitUpgraded"
  /** Move or end everything that this process holds; the successor takes it. */
  | "beginHandover"
  /** Watch the successor until its probation is over. */
  | "beginProbation"
  /** Tell the successor that it stays, and release what a rollback would have needed. */
  | "confirmSuccessor"
  /** Cancel the drain: state is this process's again. */
  | "cancelDrain"
  /** Accept again. */
  | "acceptAgain"
  /** Read the channels of older generations again. */
  | "reclaimChannels"
  /** Put this process's PID back into the PID file. */
  | "restorePidFile"
  /** Acquire the roles again. */
  | "reacquireRoles"
  /** Record the rollback, and emit `rollback`. */
  | "emitRollback"
  /** Tell the process at the other end of a probation that this one stops. */
  | "announceStop"
  /** Close the channel to a predecessor that has not committed: it keeps serving. */
  | "leavePredecessor"
  /** Reject a `ready()` that is still waiting. */
  | "abandonStartup"
  /** Close the listeners: there is no successor to accept for. */
  | "closeListeners"
  /** End everything that this process holds; there is no successor. */
  | "beginDrain"
  /** End the process's part in the service. */
  | "exit";

/** What an event does: the next state and the effects; or nothing, and the code of the refusal. */
type Step =
  | { readonly state: State; readonly effects: readonly Effect[]; readonly refused?: undefined }
  | { readonly refused: ErrorCode };

/** The step for `event` in `state`. An event without a meaning in that state changes nothing. */
export function transition(state: State, event: Event): Step {
  if (event === "upgrade") return requestUpgrade(state);
  if (event === "stop" || (event === "peerStopping" && isInProbation(state))) return requestStop(state);
  return advance(state, event) ?? { state, effects: [] };
}

/** The five states of the public `state` property. */
export function publicState(state: State): "starting" | "ready" | "upgrading" | "draining" | "exited" {
  switch (state.name) {
    case "announced":
      return "starting";
    case "replaced":
      return "draining";
    default:
      return state.name;
  }
}

/** What the listeners of this process do in `state`. */
export function acceptPhase(state: State): "holding" | "accepting" | "stopped" {
  switch (state.name) {
    case "starting":
    case "announced":
      return "holding";
    case "ready":
    case "upgrading":
      return "accepting";
    default:
      return "stopped";
  }
}

/** Whether a process in `state` serves, and cannot be rolled back: the state that it takes is final. */
export function isConfirmed(state: State): boolean {
  return state.name === "upgrading" || (state.name === "ready" && !state.onProbation);
}

/** Why nothing can be begun in `state`: a code, or undefined where it can. */
export function busyWith(state: State): ErrorCode | undefined {
  switch (state.name) {
    case "upgrading":
      return "ERR_UPGRADE_IN_PROGRESS";
    case "replaced":
      return "ERR_ALREADY_UPGRADED";
    case "draining":
    case "exited":
      return state.outcome === "upgraded" ? "ERR_ALREADY_UPGRADED" : "ERR_STOPPED";
    default:
      return undefined;
  }
}

function requestUpgrade(state: State): Step {
  const busy = busyWith(state);
  if (busy !== undefined) return { refused: busy };
  if (state.name !== "ready") return { refused: "ERR_NOT_READY" };
  if (state.onProbation) return { refused: "ERR_ON_PROBATION" };
  return { state: { name: "upgrading" }, effects: ["lendDescriptors"] };
}

/** Whether this process, or its successor, is on probation. */
function isInProbation(state: State): boolean {
  return state.name === "replaced" || (state.name === "ready" && state.onProbation);
}

const DRAIN_ALONE = ["abandonStartup", "stopAccepting", "closeListeners", "beginDrain"] as const;

const HAND_OVER = ["beginHandover"] as const;

function requestStop(state: State): Step {
  const stopping: State = { name: "draining", outcome: "stopped" };
  switch (state.name) {
    case "starting":
      return { state: stopping, effects: DRAIN_ALONE };
    case "announced":
      return { state: stopping, effects: ["leavePredecessor", ...DRAIN_ALONE] };
    case "ready":
      return {
        state: stopping,
        effects: state.onProbation ? ["announceStop", ...DRAIN_ALONE] : ["killStaged", ...DRAIN_ALONE],
      };
    case "upgrading":
      return { state: stopping, effects: ["killSuccessor", "killStaged", ...DRAIN_ALONE] };
    case "replaced":
      if (state.drained) {
        return {
          state: { name: "exited", outcome: "stopped" },
          effects: ["announceStop", "confirmSuccessor", "exit"],
        };
      }
      return {
        state: stopping,
        effects: ["announceStop", "confirmSuccessor", ...(state.acknowledged ? [] : HAND_OVER)],
      };
    default:
      return { state, effects: [] };
  }
}

function advance(state: State, event: Event): Step | undefined {
  switch (state.name) {
    case "starting":
      if (event === "ready") return { state: { name: "announced" }, effects: ["sendReady"] };
      return undefined;
    case "announced":
      if (event === "mayAccept") {
        return {
          state: { name: "ready", onProbation: true },
          effects: ["accept", "closeUnused", "acknowledge"],
        };
      }
      return undefined;
    case "ready":
      if (event === "confirmed" && state.onProbation) {
        return { state: { name: "ready", onProbation: false }, effects: ["confirm"] };
      }
      return undefined;
    case "upgrading":
      if (event === "committed") {
        return {
          state: { name: "replaced", acknowledged: false, drained: false },
          effects: ["stopAccepting", "emitUpgraded", "beginProbation"],
        };
      }
      if (event === "failed" || event === "rehearsed" || event === "staged") {
        return { state: { name: "ready", onProbation: false }, effects: ["reclaimDescriptors"] };
      }
      return undefined;
    case "replaced":
      return advanceReplaced(state, event);
    case "draining":
      if (event === "drained") {
        return { state: { name: "exited", outcome: state.outcome }, effects: ["exit"] };
      }
      return undefined;
    default:
      return undefined;
  }
}

function advanceReplaced(state: State & { name: "replaced" }, event: Event): Step | undefined {
  switch (event) {
    case "acknowledged":
      // Nothing is offered before: a successor that hangs has adopted nothing, and is rolled back without a loss.
      if (state.acknowledged) return undefined;
      return { state: { ...state, acknowledged: true }, effects: ["beginHandover"] };
    case "drained":
      return state.acknowledged ? { state: { ...state, drained: true }, effects: [] } : undefined;
    case "successorDied":
      return {
        state: { name: "ready", onProbation: false },
        effects: [
          "cancelDrain",
          "acceptAgain",
          "reclaimDescriptors",
          "reclaimChannels",
          "restorePidFile",
          "reacquireRoles",
          "emitRollback",
        ],
      };
    case "probationOver":
      if (state.drained) {
        return { state: { name: "exited", outcome: "upgraded" }, effects: ["confirmSuccessor", "exit"] };
      }
      return {
        state: { name: "draining", outcome: "upgraded" },
        effects: ["confirmSuccessor", ...(state.acknowledged ? [] : HAND_OVER)],
      };
    default:
      return undefined;
  }
}

/** @throws {HandoverError} if this process is being replaced or stopped: new work could not move */
export function assertAcceptsNew(state: State, doing: string): void {
  const busy = busyWith(state);
  if (busy !== undefined) throw stateError(busy, doing);
}

/**
 * @param needsHosts whether the other hosts are asked, among which this process is not before it accepts
 * @throws {HandoverError} for work that, started now, would run in both this process and its predecessor
 */
export function assertMayRun(
  state: State,
  hasPredecessor: boolean,
  needsHosts: boolean,
  doing: string,
): void {
  if (state.name === "upgrading") return;
  assertAcceptsNew(state, doing);
  const isWaiting = state.name === "starting" || state.name === "announced";
  if (isWaiting && (hasPredecessor || needsHosts)) throw stateError("ERR_NOT_READY", doing);
}

/** The error for a request that the state of this process does not allow. */
export function stateError(code: ErrorCode, doing: string): HandoverError {
  return new HandoverError(code, `cannot ${doing}: ${REASONS[code] ?? code}`);
}

const REASONS: Partial<Record<ErrorCode, string>> = {
  ERR_NOT_READY: "this process is not ready yet",
  ERR_UPGRADE_IN_PROGRESS: "an upgrade is in progress",
  ERR_ALREADY_UPGRADED: "this process has already been replaced",
  ERR_ON_PROBATION: "this process is on probation itself, and its predecessor may still take over again",
  ERR_TOO_MANY_DRAINING: "too many older generations are still draining",
  ERR_STOPPED: "this process is stopping",
  ERR_PID_1:
    "this process is PID 1, and the kernel would end the container with it; start the program by handover run",
};

/** The error of a successor whose predecessor lives, but does not commit in time. */
export function handoverTimeout(predecessor: number, timeout: number): HandoverError {
  return new HandoverError(
    "ERR_UPGRADE_TIMEOUT",
    `cannot get ready: timed out after ${timeout} ms waiting for pid ${predecessor} to hand over`,
  );
}
