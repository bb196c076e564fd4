import { HandoverError } from "../errors.js";
import type { Timings, UpgradeRecord, UpgradeResult } from "../events.js";
import type { Exchange } from "../exchange/exchange.js";
import { stateError } from "../lifecycle.js";
import { DOUBTFUL_SILENCE, HeartbeatWatch } from "../process/heartbeat.js";
import { deferred } from "../util/deferred.js";
import { runAll } from "../util/run-all.js";
import { abortError, type Candidate } from "./candidate.js";
import type { ProcessContext } from "./context.js";
import type { Succession } from "./succession.js";

/** The second half of an upgrade: from a candidate that is ready to the end of its probation. */
export class Takeover implements Succession {
  readonly generation: number;
  readonly #context: ProcessContext;
  readonly #candidate: Candidate;
  readonly #record: UpgradeRecord;
  readonly #staged: boolean;
  readonly #settled = deferred<"confirmed" | "rolledBack">();
  readonly #probation = deferred<HandoverError | undefined>();
  /** When the commit began, on the clock of the process. */
  #start = 0;
  #timings: Timings;
  #cancelProbation: () => void = () => {};
  #deathOnProbation: HandoverError | undefined;

  /**
   * @param record of the upgrade, which is kept up to date
   * @param staged whether the candidate was ready before the request
   */
  constructor(context: ProcessContext, candidate: Candidate, record: UpgradeRecord, staged: boolean) {
    this.#context = context;
    this.#candidate = candidate;
    this.#record = record;
    this.#staged = staged;
    this.generation = candidate.generation;
    this.#timings = { ...candidate.timings, commit: 0 };
  }

  /** Of the process that has said it is ready; not of a wrapper that was spawned. */
  get pid(): number {
    return this.#candidate.pid;
  }

  /** The exchange on which this process offers parcels. */
  get exchange(): Exchange {
    return this.#candidate.successor.exchange;
  }

  /** Resolves when the successor is gone. */
  get gone(): Promise<void> {
    return this.#candidate.successor.gone;
  }

  /** Resolves at the end of probation: whether the successor was confirmed. */
  get confirmed(): Promise<boolean> {
    return this.#settled.promise.then((outcome) => outcome === "confirmed");
  }

  get result(): UpgradeResult {
    const { pid, generation } = this;
    return { pid, generation, timings: this.#timings, staged: this.#staged, settled: this.#settled.promise };
  }

  /**
   * Prepares for a rollback, and releases the roles, while this process still accepts.
   *
   * @throws {HandoverError} `ERR_PID_FILE`, `ERR_ROLE`: call {@link undo}
   */
  async prepare(): Promise<void> {
    this.#start = this.#context.env.clock.now();
    // A rollback must not depend on a disk that is full by then.
    this.#context.pidFile?.prepare();
    await this.#context.processState.roles.release();
  }

  /**
   * Sends the commit. From there to the end of the turn no process accepts: the event loop does not run. The caller must
   * stop accepting before any other code runs, even a microtask: a stop between the two would kill the new process, too.
   *
   * @param signal aborts the upgrade
   * @throws {Error} Nothing has been sent: call {@link undo}
   */
  commit(signal: AbortSignal | undefined): void {
    if (this.#context.state().name !== "upgrading") throw stateError("ERR_STOPPED", "upgrade");
    if (signal?.aborted) throw abortError(signal);
    this.#sendCommit();
    this.#timings = { ...this.#timings, commit: this.#context.env.clock.now() - this.#start };
    const { pid } = this;
    Object.assign(this.#record, { pid, outcome: "probation", timings: this.#timings });
  }

  /**
   * After a commit that failed: kills the successor, and takes the roles and the channels back. Everything is as it was when
   * this resolves.
   *
   * @returns the error to throw: `ERR_ROLE`, `ERR_STOPPED`, `ERR_ABORTED`, `ERR_CHILD_EXITED`, `ERR_PROTOCOL`
   */
  async undo(failure: Error): Promise<Error> {
    const { processState, state, emit } = this.#context;
    const { successor } = this.#candidate;
    this.#context.pidFile?.discard();
    successor.kill();
    const how = await successor.deadOrUnkillable;
    if (successor.isDead) this.#reclaimFromCandidate();
    else void successor.dead.then(() => this.#reclaimFromCandidate());
    if (state().name !== "upgrading") return stateError("ERR_STOPPED", "upgrade");
    for (const error of await processState.roles.acquireAll()) emit("failed", { error });
    if (!successor.isDead) return how;
    return failure instanceof SuccessorGone ? (successor.failure ?? how) : failure;
  }

  /**
   * Whether the successor is watched: it acknowledges the commit, and sends heartbeats on probation. Without a probation it is watched,
   * too, until it has acknowledged: if the commit never reached it, no process would accept.
   */
  get isWatched(): boolean {
    return this.#candidate.successor.hasHeartbeat;
  }

  /** Resolves when probation is over; with the error of the dead successor, if it died. */
  probation(): Promise<HandoverError | undefined> {
    const { successor } = this.#candidate;
    const { probation } = this.#context.settings;
    void successor.dead.then((how) => this.#onDeath(how));
    if (this.isWatched) this.#watch();
    else if (probation === 0) this.#endProbation();
    else this.#cancelProbation = this.#context.env.clock.after(probation, () => this.#endProbation());
    return this.#probation.promise;
  }

  /**
   * Probation is over when its time is, and the successor is known to be well: it has sent a heartbeat after the turn in which
   * it began to accept, and has one of about the end of probation or later. One that was sent long before, and was read late,
   * says nothing. A successor that is silent for a whole probation hangs: it is killed, which rolls back. A debugger may stop
   * one for longer: silence says nothing of it once it has acknowledged, and until then it has the time that it had to get
   * ready.
   */
  #watch(): void {
    const { successor } = this.#candidate;
    const { clock } = this.#context.env;
    const { probation, upgradeTimeout } = this.#context.settings;
    const end = clock.now() + probation;
    const isWell = (aliveAt: number): boolean => {
      if (successor.isInspected || probation === 0) return successor.hasAcknowledged;
      return successor.hasTurned && aliveAt > end - DOUBTFUL_SILENCE;
    };
    const watch = new HeartbeatWatch(clock, successor, ({ silence, aliveAt }) => {
      const limit = Math.max(probation, MIN_SILENCE, successor.isInspected ? upgradeTimeout : 0);
      if (clock.now() >= end && isWell(aliveAt)) {
        watch.stop();
        this.#endProbation();
      } else if (silence >= limit) {
        watch.stop();
        successor.fail(unresponsive(this.pid, limit));
      }
    });
    this.#cancelProbation = () => watch.stop();
  }

  #endProbation(): void {
    const { successor } = this.#candidate;
    const survive = (): void => {
      // It is being killed: its death ends probation.
      if (successor.failure === undefined) this.#probation.resolve(undefined);
    };
    // It may have died in time, while this process was too busy to notice.
    const surviveLater = this.#context.settings.probation === 0 ? survive : () => void setImmediate(survive);
    void successor.detachProcess().then(surviveLater, surviveLater);
  }

  #onDeath(how: HandoverError): void {
    const { successor } = this.#candidate;
    // Its last message may say that it was told to stop, which is not a reason for a rollback.
    successor.readNow();
    this.#deathOnProbation = successor.failure ?? how;
    this.#probation.resolve(this.#deathOnProbation);
  }

  announceStop(): void {
    this.#candidate.successor.sendStopping();
  }

  /** A rollback is impossible: releases everything that it would have needed. */
  confirm(): void {
    this.#cancelProbation();
    const { successor } = this.#candidate;
    const { sockets, inventory, pidFile } = this.#context;
    runAll([
      () => successor.sendConfirmed(),
      () => successor.disown(),
      () => sockets.closeSpares(),
      () => pidFile?.discard(),
      () => inventory.closeUsed(successor.used),
      () => this.#settled.resolve("confirmed"),
    ]);
  }

  /** The successor has died: reads the channels of older generations in this process again. */
  reclaimChannels(): void {
    this.#cancelProbation();
    runAll([() => this.#readPredecessorsAgain(), () => this.#candidate.cleanUp()]);
  }

  /** Records the rollback. Returns the error of the dead successor. */
  recordRollback(): HandoverError {
    const error = this.#deathOnProbation!;
    this.#settled.resolve("rolledBack");
    this.#context.history.fail(this.#record, "rolledBack", error);
    return error;
  }

  #sendCommit(): void {
    const { predecessors, sockets, processState } = this.#context;
    const { successor } = this.#candidate;
    const { last } = processState.fences;
    if (!successor.sendCommit(predecessors.alive, sockets.ticketKeys(), last)) throw new SuccessorGone();
  }

  #reclaimFromCandidate(): void {
    this.#candidate.cleanUp();
    this.#readPredecessorsAgain();
  }

  #readPredecessorsAgain(): void {
    const { predecessors, generation, env } = this.#context;
    predecessors.readAgain({ generation, pid: env.pid });
  }
}

/** ms. A successor that is silent for less is never killed, however short probation is. */
const MIN_SILENCE = 3_000;

function unresponsive(pid: number, silence: number): HandoverError {
  const message = `the successor (pid ${pid}) did not respond for ${silence} ms after the commit, and was killed`;
  return new HandoverError("ERR_UNRESPONSIVE", message);
}

/** The successor died before it could be told to accept; the way it died is reported by its process. */
class SuccessorGone extends Error {}
