import { HandoverError, type ErrorCode } from "./errors.js";
import { busyWith, type State } from "./lifecycle.js";

/** Refuses what would come too late to be handed on. */
export function requireOpen(state: State, doing: string): void {
  const busy = busyWith(state);
  if (busy !== undefined) throw refusal(busy, doing);
}

/** Refuses what would run here and in the predecessor. */
export function requireActive(state: State, hasParent: boolean, doing: string): void {
  if (state.name === "upgrading") return;
  requireOpen(state, doing);
  const isWaiting = state.name === "starting" || state.name === "announced";
  if (isWaiting && hasParent) throw refusal("ERR_NOT_READY", doing);
}

/** The error for what the state of this process does not allow. */
export function refusal(code: ErrorCode, doing: string): HandoverError {
  return new HandoverError(code, `cannot ${doing}: ${REASONS[code] ?? code}`);
}

const REASONS: Partial<Record<ErrorCode, string>> = {
  ERR_NOT_READY: "this process is not ready yet",
  ERR_UPGRADE_IN_PROGRESS: "an upgrade is in progress",
  ERR_ALREADY_UPGRADED: "this process has been replaced already",
  ERR_ON_PROBATION: "this process is on probation itself, and its predecessor may still take over again",
  ERR_TOO_MANY_DRAINING: "too many older generations are still draining",
  ERR_STOPPED: "this process is stopping",
  ERR_PID_1: "this process is PID 1, and the kernel would end the container with it",
};

/** For a successor whose predecessor lives, but never says go. */
export function noGo(parent: number, timeout: number): HandoverError {
  return new HandoverError(
    "ERR_UPGRADE_TIMEOUT",
    `cannot get ready: the predecessor (pid ${parent}) did not say go within ${timeout} ms`,
  );
}
