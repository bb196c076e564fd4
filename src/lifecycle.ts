import type { ErrorCode } from "./errors.js";

/**
 * The states of one process of the service, and all that can happen to it. This table is the only place that
 * decides; `Generation` feeds events in and runs the effects that come out, in their order.
 */
export type State =
  /** The program initialises. */
  | { readonly name: "starting" }
  /** The program is ready; the predecessor has to say go. */
  | { readonly name: "announced" }
  /** It accepts. On probation its predecessor can still take over again. */
  | { readonly name: "ready"; readonly onProbation: boolean }
  /** It accepts, and its successor initialises. */
  | { readonly name: "upgrading" }
  /** Its successor accepts, and is on probation; it drains. */
  | { readonly name: "replaced"; readonly drained: boolean }
  /** It drains, and nothing can be undone any more. */
  | { readonly name: "draining"; readonly outcome: Outcome }
  | { readonly name: "exited"; readonly outcome: Outcome };

export type Outcome = "upgraded" | "stopped";

export type Event =
  /** The program called `ready()`. */
  | "ready"
  /** The predecessor said go, or is dead, or there never was one. */
  | "go"
  /** The predecessor cannot take over again any more. */
  | "kept"
  /** An upgrade is asked for. */
  | "upgrade"
  /** The successor was ready and has been told to go. */
  | "committed"
  /** The upgrade failed before its commit, and the successor is dead. */
  | "failed"
  /** The upgrade was a rehearsal, and the successor is dead. */
  | "rehearsed"
  /** The successor's probation is over. */
  | "settled"
  /** The successor died on probation. */
  | "lost"
  /** This process is asked to stop. */
  | "stop"
  /** The process at the other end of the channel says that it is stopping: a reason to stop during a probation. */
  | "stopping"
  /** The drain is over. */
  | "drained";

export type Effect =
  /** Tell the predecessor that this process is ready. */
  | "announce"
  | "accept"
  /** Probation is over: what the predecessor would have needed for a rollback may go. */
  | "keep"
  /** Kill the successor that is not ready yet. */
  | "abandon"
  /** Start the drain for a successor's sake. */
  | "handOn"
  /** Tell the successor that it stays; give up what a rollback would have needed. */
  | "settle"
  /** Accept again. */
  | "rollBack"
  /** Tell the process at the other end of a probation that this one is stopping. */
  | "warnPeer"
  /** Close the channel to a predecessor that has not been heard to say go: it serves on. */
  | "withdraw"
  /** Stop accepting, and drain with nobody to take over. */
  | "close"
  /** The end. */
  | "leave";

/** What an event does: the next state and the effects; or nothing, and the reason. */
type Step =
  | { readonly state: State; readonly effects: readonly Effect[]; readonly refused?: undefined }
  | { readonly refused: ErrorCode };

/** What `event` does in `state`. An event that means nothing there changes nothing. */
export function transition(state: State, event: Event): Step {
  if (event === "upgrade") return requestUpgrade(state);
  if (event === "stop" || (event === "stopping" && isInProbation(state))) return requestStop(state);
  return follow(state, event) ?? { state, effects: [] };
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

/** Why nothing can be begun in `state` any more, or not yet again; undefined where it can. */
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
  return { state: { name: "upgrading" }, effects: [] };
}

/** Whether this process, or its successor, is on probation. */
function isInProbation(state: State): boolean {
  return state.name === "replaced" || (state.name === "ready" && state.onProbation);
}

function requestStop(state: State): Step {
  const stopping: State = { name: "draining", outcome: "stopped" };
  switch (state.name) {
    case "starting":
      return { state: stopping, effects: ["close"] };
    case "announced":
      return { state: stopping, effects: ["withdraw", "close"] };
    case "ready":
      return { state: stopping, effects: state.onProbation ? ["warnPeer", "close"] : ["close"] };
    case "upgrading":
      return { state: stopping, effects: ["abandon", "close"] };
    case "replaced":
      return state.drained
        ? { state: { name: "exited", outcome: "stopped" }, effects: ["warnPeer", "settle", "leave"] }
        : { state: stopping, effects: ["warnPeer", "settle"] };
    default:
      return { state, effects: [] };
  }
}

function follow(state: State, event: Event): Step | undefined {
  switch (state.name) {
    case "starting":
      if (event === "ready") return { state: { name: "announced" }, effects: ["announce"] };
      return undefined;
    case "announced":
      if (event === "go") return { state: { name: "ready", onProbation: true }, effects: ["accept"] };
      return undefined;
    case "ready":
      if (event === "kept" && state.onProbation) {
        return { state: { name: "ready", onProbation: false }, effects: ["keep"] };
      }
      return undefined;
    case "upgrading":
      if (event === "committed") return { state: { name: "replaced", drained: false }, effects: ["handOn"] };
      if (event === "failed" || event === "rehearsed") {
        return { state: { name: "ready", onProbation: false }, effects: [] };
      }
      return undefined;
    case "replaced":
      return followReplaced(state, event);
    case "draining":
      if (event === "drained") {
        return { state: { name: "exited", outcome: state.outcome }, effects: ["leave"] };
      }
      return undefined;
    default:
      return undefined;
  }
}

function followReplaced(state: State & { name: "replaced" }, event: Event): Step | undefined {
  switch (event) {
    case "drained":
      return { state: { name: "replaced", drained: true }, effects: [] };
    case "lost":
      return { state: { name: "ready", onProbation: false }, effects: ["rollBack"] };
    case "settled":
      return state.drained
        ? { state: { name: "exited", outcome: "upgraded" }, effects: ["settle", "leave"] }
        : { state: { name: "draining", outcome: "upgraded" }, effects: ["settle"] };
    default:
      return undefined;
  }
}
