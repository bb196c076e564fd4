import type { CommitFailure } from "./commit-failure.js";

/** One upgrade of workers. A worker is named by its index: a new one replaces the old one of the same index. */
export interface CommitPlan {
  /** The indexes of the workers that are to serve; at least one. */
  readonly news: readonly number[];
  /** Those of `news` that have a worker which serves now. */
  readonly olds: readonly number[];
  /** Whether the upgrade can be rolled back after its commit. */
  readonly probation: boolean;
  /** Whether the new workers are started and ready already. */
  readonly staged?: boolean;
}

/** What the commit waits for. Each phase but `ended` has a timer. */
export type CommitPhase =
  /** Each new worker is to become ready. */
  | "starting"
  /** The old workers release the roles. */
  | "yielding"
  /** The old workers stop accepting. */
  | "ceasing"
  /** The new workers acknowledge that they accept. */
  | "committing"
  /** Every new worker has to stay well for a while. */
  | "probation"
  /** The upgrade has failed: every new worker is to die. */
  | "killing"
  /** The old workers accept again. */
  | "resuming"
  | "ended";

export interface CommitState {
  readonly plan: CommitPlan;
  readonly phase: CommitPhase;
  /** The workers whose answer the phase waits for: new ones in starting, committing and killing, else old ones. */
  readonly awaited: readonly number[];
  /** The new workers that were started, and are not known to be dead. */
  readonly started: readonly number[];
  /** The new workers that were told to accept, also those that have died. */
  readonly committed: readonly number[];
  /** The old workers that were told to yield, also those that have died. */
  readonly yielded: readonly number[];
  readonly deadOlds: readonly number[];
  readonly failure?: CommitFailure;
}

export type CommitEvent =
  | { readonly type: "workerReady"; readonly index: number }
  /** The process of a new worker is gone. */
  | { readonly type: "newDied"; readonly index: number }
  | { readonly type: "oldDied"; readonly index: number }
  /** An old worker has released its roles, or could not. */
  | { readonly type: "yielded"; readonly index: number; readonly failed: boolean }
  | { readonly type: "ceased"; readonly index: number }
  | { readonly type: "acknowledged"; readonly index: number }
  | { readonly type: "resumed"; readonly index: number }
  /** The timer of the phase has run out. */
  | { readonly type: "timeout"; readonly phase: CommitPhase }
  /** The time of the probation is over, and every new worker is well. */
  | { readonly type: "probationOver" }
  /** A new worker that was told to accept has been silent for too long. */
  | { readonly type: "newHung"; readonly index: number }
  /** An old worker has been silent for too long. */
  | { readonly type: "oldHung"; readonly index: number }
  /** A caller or a stop ends the upgrade. It has no meaning after the commit: a stop has to come after the upgrade. */
  | { readonly type: "abort"; readonly code: "ERR_ABORTED" | "ERR_STOPPED" };

export type CommitEffect =
  /** Start new workers. */
  | { readonly type: "start"; readonly indexes: readonly number[] }
  /** Tell old workers to release their roles. */
  | { readonly type: "yield"; readonly indexes: readonly number[] }
  /** Tell old workers to stop accepting. */
  | { readonly type: "cease"; readonly indexes: readonly number[] }
  /** Tell new workers to accept. */
  | { readonly type: "commit"; readonly indexes: readonly number[] }
  /** Tell an old worker to move and end what it holds. */
  | { readonly type: "retire"; readonly index: number }
  /** Kill new workers, at once. */
  | { readonly type: "kill"; readonly indexes: readonly number[] }
  /** Tell old workers to accept again, and one of them to hold the roles. */
  | { readonly type: "resume"; readonly indexes: readonly number[] }
  /** Tell every worker that a rollback is impossible now. */
  | { readonly type: "confirm"; readonly news: readonly number[]; readonly olds: readonly number[] }
  /** Start the timer of a phase, in place of the one that runs. In probation its end is `probationOver`, not `timeout`. */
  | { readonly type: "setTimer"; readonly phase: CommitPhase }
  | { readonly type: "clearTimer" }
  | { readonly type: "done" }
  /**
   * Every old worker has died before the new ones were ready. Those that were started serve in their place, each as soon as it
   * is ready: the last effect.
   */
  | { readonly type: "orphaned" }
  | CommitUndone;

/** The last effect of an upgrade that failed before its commit, or was rolled back after it. */
export interface CommitUndone {
  readonly type: "failed" | "rolledBack";
  readonly failure: CommitFailure;
  /** The indexes whose old worker has died meanwhile: each needs a new process. */
  readonly dead: readonly number[];
  /** The old workers that have not answered `resume` in time: they hang, unless they still answer. */
  readonly silent: readonly number[];
  /** The new workers that were killed and are not dead yet. */
  readonly unkillable: readonly number[];
}

export interface CommitStep {
  readonly state: CommitState;
  readonly effects: readonly CommitEffect[];
}
