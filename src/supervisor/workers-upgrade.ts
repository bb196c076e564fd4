import { native, check } from "../platform/native.js";
import { closeAll } from "../platform/descriptors.js";
import { HandoverError } from "../errors.js";
import type { Timings } from "../events.js";
import { awaitInput, type Clock } from "../util/clock.js";
import { deferred } from "../util/deferred.js";
import { commitError, NOT_GREETED } from "./commit-failure.js";
import type {
  CommitEffect,
  CommitEvent,
  CommitPhase,
  CommitPlan,
  CommitState,
  CommitUndone,
} from "./commit-types.js";
import { beginCommit, stepCommit } from "./commit.js";
import { newRoleHolder } from "./role-holder.js";
import type { PeerLink, WorkerProcess } from "./worker-process.js";

/** The supervisor, as an upgrade of its workers uses it. */
interface UpgradeHost {
  readonly clock: Clock;
  readonly readyTimeout: number;
  readonly probation: number;
  /** Starts a new worker, with a link to the old one that it replaces. */
  start(index: number, predecessor: PeerLink | undefined): Promise<WorkerProcess>;
  /** The index of the worker that holds the roles. */
  holder(): number | undefined;
  /** Tells a new worker to accept. */
  commit(worker: WorkerProcess, roles: boolean): void;
  /** Tells an old worker to accept again. */
  resume(worker: WorkerProcess, reason: HandoverError, roles: boolean): void;
  /** Other workers accept than before. */
  changed(): void;
}

/** How an upgrade of workers ended. */
export type UpgradeEnd =
  | { readonly how: "done" }
  /** No worker serves, and the new ones that were started have to. */
  | { readonly how: "orphaned"; readonly error: HandoverError }
  | { readonly how: "failed" | "rolledBack"; readonly error: HandoverError };

/** Drives one upgrade of workers by its table. */
export class WorkersUpgrade {
  /** Resolves when all new workers accept; rejects if the upgrade failed before. */
  readonly committed: Promise<Timings>;
  /** Resolves at the end. */
  readonly ended: Promise<UpgradeEnd>;
  readonly #host: UpgradeHost;
  readonly #olds: ReadonlyMap<number, WorkerProcess>;
  readonly #news = new Map<number, WorkerProcess>();
  readonly #committed = deferred<Timings>();
  readonly #ended = deferred<UpgradeEnd>();
  readonly #plan: CommitPlan;
  #state: CommitState;
  #cancelTimer: () => void = () => {};
  /** Why a worker failed, for the error. */
  #cause: Error | undefined;
  /** The service stops: the deaths of its workers mean nothing. */
  #isAbandoned = false;
  readonly #ready = new Set<number>();
  readonly #marks: Partial<Record<CommitPhase | "begin" | "spawned", number>> = {};

  /**
   * Begins at once.
   *
   * @param olds the workers that serve
   * @param staged new workers that are ready
   */
  constructor(
    host: UpgradeHost,
    plan: CommitPlan,
    olds: ReadonlyMap<number, WorkerProcess>,
    staged: ReadonlyMap<number, WorkerProcess>,
  ) {
    this.#host = host;
    this.#plan = plan;
    this.#olds = olds;
    this.committed = this.#committed.promise;
    this.ended = this.#ended.promise;
    this.committed.catch(() => {});
    this.#mark("begin");
    for (const [index, worker] of staged) this.#add(index, worker);
    const { state, effects } = beginCommit(plan);
    this.#state = state;
    queueMicrotask(() => this.#run(effects));
  }

  get phase(): CommitPhase {
    return this.#state.phase;
  }

  /** The new workers that were started. */
  get news(): ReadonlyMap<number, WorkerProcess> {
    return this.#news;
  }

  /** The indexes of the new workers that have become ready. */
  get ready(): ReadonlySet<number> {
    return this.#ready;
  }

  /** Whether this upgrade replaces the worker of an index. */
  replaces(index: number): boolean {
    return this.#plan.news.includes(index);
  }

  /** Whether a worker is one of the new ones. */
  hasNew(worker: WorkerProcess): boolean {
    return this.#news.get(worker.index) === worker;
  }

  /** Whether a worker is one of those that are replaced. */
  hasOld(worker: WorkerProcess): boolean {
    return this.#olds.get(worker.index) === worker;
  }

  /** Gives up before the commit. After it, the service that stops only needs to stop both generations. */
  abort(error: HandoverError): void {
    if (this.#state.committed.length > 0 && error.code === "ERR_STOPPED") return this.#abandon();
    this.#cause ??= error;
    this.dispatch({ type: "abort", code: error.code === "ERR_STOPPED" ? "ERR_STOPPED" : "ERR_ABORTED" });
  }

  dispatch(event: CommitEvent): void {
    if (this.#isAbandoned) return;
    const { state, effects } = stepCommit(this.#state, event);
    const before = this.#state.phase;
    this.#state = state;
    if (state.phase !== before) this.#mark(state.phase);
    this.#run(effects);
    if (state.phase !== before) this.#host.changed();
  }

  /** A new worker is ready. */
  onReady(index: number): void {
    this.#ready.add(index);
    this.dispatch({ type: "workerReady", index });
  }

  /** An old worker has released its roles; or not, for a reason. */
  onYielded(index: number, failure: string | undefined): void {
    if (failure !== undefined && this.#state.phase === "yielding") this.#cause ??= new Error(failure);
    this.dispatch({ type: "yielded", index, failed: failure !== undefined });
  }

  /** The silence of a worker that was told to accept. */
  onSilence(worker: WorkerProcess, silence: number): void {
    const { index, isInspected } = worker;
    const isNew = this.hasNew(worker);
    const limit = isNew ? Math.max(this.#host.probation, MIN_SILENCE) : MIN_SILENCE;
    if (isInspected || silence < limit) return;
    if (isNew) this.dispatch({ type: "newHung", index });
    else if (this.hasOld(worker)) this.dispatch({ type: "oldHung", index });
  }

  #run(effects: readonly CommitEffect[]): void {
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: CommitEffect): void {
    switch (effect.type) {
      case "start":
        for (const index of effect.indexes) void this.#start(index);
        break;
      case "yield":
        for (const old of this.#those(effect.indexes)) old.yield();
        break;
      case "cease":
        for (const old of this.#those(effect.indexes)) old.cease(this.#news.get(old.index)!.peer);
        break;
      case "commit":
        this.#commit(effect.indexes);
        break;
      case "retire":
        this.#olds.get(effect.index)!.retire();
        break;
      case "kill":
        for (const index of effect.indexes) this.#kill(index);
        break;
      case "resume":
        for (const old of this.#those(effect.indexes))
          this.#host.resume(old, this.#error, old.index === this.#host.holder());
        break;
      case "confirm":
        for (const index of effect.news) this.#news.get(index)?.confirm();
        for (const old of this.#those(effect.olds)) old.confirm();
        break;
      case "setTimer":
        this.#setTimer(effect.phase);
        break;
      case "clearTimer":
        this.#cancelTimer();
        break;
      case "done":
        this.#onAllCommitted();
        this.#ended.resolve({ how: "done" });
        break;
      case "orphaned":
        this.#onOrphaned();
        break;
      case "failed":
      case "rolledBack":
        this.#end(effect);
        break;
      default:
    }
  }

  async #start(index: number): Promise<void> {
    const old = this.#olds.get(index);
    let ends: [number, number] | undefined;
    try {
      if (old !== undefined) ends = check(native().socketpair(), "make", "a pair of sockets");
      const link = old && ends && { ...old.peer, index, fd: ends[0] };
      const worker = await this.#host.start(index, link);
      if (old && ends) old.connect("successor", { ...worker.peer, index }, ends[1]);
      this.#add(index, worker);
      if (this.#state.phase !== "starting" || this.#isAbandoned) this.#kill(index);
      else this.#mark("spawned");
    } catch (error) {
      this.#cause ??= error as Error;
      this.dispatch({ type: "newDied", index });
    } finally {
      closeAll(ends ?? []);
    }
  }

  #add(index: number, worker: WorkerProcess): void {
    this.#news.set(index, worker);
    void worker.dead.then((how) => {
      if (this.#state.phase !== "killing") this.#cause ??= how;
      this.dispatch({ type: "newDied", index });
    });
  }

  #commit(indexes: readonly number[]): void {
    const holder = newRoleHolder(this.#host.holder(), indexes);
    for (const index of indexes) this.#host.commit(this.#news.get(index)!, index === holder);
  }

  #kill(index: number): void {
    const worker = this.#news.get(index);
    // It is killed when it has been started.
    if (worker === undefined) return;
    worker.fail(this.#error);
  }

  #those(indexes: readonly number[]): WorkerProcess[] {
    return indexes.map((index) => this.#olds.get(index)!);
  }

  get #error(): HandoverError {
    const { failure } = this.#state;
    return failure === undefined
      ? new HandoverError("ERR_STOPPED", "the upgrade is over")
      : commitError(failure, this.#cause);
  }

  #setTimer(phase: CommitPhase): void {
    this.#cancelTimer();
    if (phase === "probation") return this.#watchProbation();
    const timeout = phase === "starting" ? this.#host.readyTimeout : (TIMEOUTS[phase] ?? MIN_SILENCE);
    const limit = phase === "committing" ? Math.max(this.#host.probation, MIN_SILENCE) : timeout;
    const readAll = (): void => {
      for (const worker of [...this.#olds.values(), ...this.#news.values()]) worker.readNow();
    };
    const onLate = (): void => {
      if (this.#state.awaited.some((index) => this.#news.get(index)?.hasGreeted === false))
        this.#cause ??= new Error(NOT_GREETED);
      this.dispatch({ type: "timeout", phase });
    };
    this.#cancelTimer = awaitInput(this.#host.clock, limit, readAll, onLate);
  }

  /** Probation is over when its time is, and every new worker is known to be well. */
  #watchProbation(): void {
    this.#onAllCommitted();
    const end = this.#host.clock.now() + this.#host.probation;
    const look = (): void => {
      const isWell = [...this.#news.values()].every((worker) => worker.isWell(end));
      if (isWell && this.#host.clock.now() >= end) this.dispatch({ type: "probationOver" });
      else this.#cancelTimer = this.#host.clock.after(LOOK_EVERY, look);
    };
    this.#cancelTimer = this.#host.clock.after(Math.min(this.#host.probation, LOOK_EVERY), look);
  }

  #onAllCommitted(): void {
    const { begin = 0, spawned = begin, yielding = spawned } = this.#marks;
    const commit = this.#host.clock.now() - yielding;
    this.#committed.resolve({ spawn: spawned - begin, ready: Math.max(0, yielding - spawned), commit });
  }

  #abandon(): void {
    this.#isAbandoned = true;
    this.#cancelTimer();
    this.#onAllCommitted();
    this.#ended.resolve({ how: "done" });
  }

  #onOrphaned(): void {
    const message =
      "cannot upgrade: every worker that served has died; the new workers serve, each as soon as it is ready";
    const error = new HandoverError("ERR_CHILD_EXITED", message);
    this.#committed.reject(error);
    this.#ended.resolve({ how: "orphaned", error });
  }

  #end({ type }: CommitUndone): void {
    const error = this.#error;
    this.#committed.reject(error);
    this.#ended.resolve({ how: type, error });
  }

  #mark(what: CommitPhase | "begin" | "spawned"): void {
    this.#marks[what] = this.#host.clock.now();
  }
}

/** ms */
const TIMEOUTS: Partial<Record<CommitPhase, number>> = {
  // A role of a worker may take as long as its own timeout.
  yielding: 30_000,
  ceasing: 1_000,
  killing: 6_000,
  resuming: 5_000,
};

/** ms. A worker that is silent for less is never killed. */
const MIN_SILENCE = 3_000;

/** ms between two looks at the new workers on probation. */
const LOOK_EVERY = 250;
