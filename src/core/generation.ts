import type { EventEmitter } from "node:events";
import type { Status } from "../control/protocol.js";
import { inheritedBinding } from "../control/binding.js";
import { ControlServer } from "../control/server.js";
import { HandoverError, reasonOf, toHandoverError } from "../errors.js";
import {
  noSummary,
  type DrainSummary,
  type Emit,
  type Rehearsal,
  type Staged,
  type UpgradeResult,
  type UpgraderEvents,
} from "../events.js";
import type { EngineReport } from "../exchange/hosts.js";
import { assertAcceptsNew, stateError, type Event, type Outcome, type State } from "../lifecycle.js";
import type { Settings } from "../options.js";
import type { Env } from "../process/env.js";
import type { DrainProgress, PredecessorListener } from "../process/predecessor.js";
import { forceExitAfter, warnAboutListeners } from "../process/signals.js";
import type { SuccessorListener } from "../process/successor.js";
import type { SupervisorLink } from "../process/supervisor-link.js";
import { announceSuccessor } from "../process/terminal.js";
import { LONGEST_TIMEOUT } from "../util/clock.js";
import { deferred } from "../util/deferred.js";
import { runAll } from "../util/run-all.js";
import { afterStart } from "./after-start.js";
import { Attempts } from "./attempts.js";
import { abortError } from "./candidate.js";
import { createContext, type ProcessContext } from "./context.js";
import { emitTo } from "./emit.js";
import { closeEverything, waitForGenerations } from "./exit.js";
import { statusOf } from "./process-status.js";
import { Shutdown } from "./shutdown.js";
import { Startup } from "./startup.js";
import { StateMachine, type Effects, type Step } from "./state-machine.js";
import type { Succession } from "./succession.js";
import { Takeover } from "./takeover.js";
import { Worker } from "./worker.js";

/**
 * One process of the service, and the one driver of its upgrades. It dispatches events to the state machine and runs the
 * effects. The parts (startup, attempts, takeover, shutdown) do not know each other: they report by promises, and this
 * class decides.
 */
export class Generation {
  readonly context: ProcessContext;
  readonly #machine: StateMachine;
  readonly #emit: Emit;
  readonly #startup: Startup;
  /** Made at the first use. */
  #attempted: Attempts | undefined;
  readonly #control: ControlServer | undefined;
  /** This process under its supervisor; undefined without one. */
  readonly #worker: Worker | undefined;
  /** Keeps the event loop alive. */
  readonly #hold: NodeJS.Timeout;
  readonly #drained = deferred<{ outcome: Outcome } & DrainSummary>();
  readonly #exit = deferred<Outcome>();
  #takeover: Succession | undefined;
  #shutdown: Shutdown | undefined;
  /** Why the successor could not be told everything. */
  #channelFailure: { error?: HandoverError } = {};
  #summary: DrainSummary = noSummary();
  /** Runs while this process still accepts, and is to stop. */
  #stopTimer: NodeJS.Timeout | undefined;

  /**
   * Reads the inheritance.
   *
   * @param emitter the public events are emitted on it
   * @throws {HandoverError} `ERR_CHANNEL`, `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_DESCRIPTOR`
   */
  constructor(settings: Settings, env: Env, emitter: EventEmitter<UpgraderEvents>) {
    this.#emit = emitTo(emitter, () => this.context.serviceManager);
    this.#machine = new StateMachine(this.#effects, {
      onTransition: (...step) => this.context.serviceManager.onTransition(...step),
      onError: (...failure) => this.#onStepError(...failure),
    });
    this.context = createContext(settings, env, {
      state: () => this.state,
      emit: this.#emit,
      inventoryChanged: () => this.#attempted?.inventoryChanged(),
    });
    this.#hold = setInterval(() => {}, LONGEST_TIMEOUT);
    this.#startup = new Startup(this.context);
    void this.#startup.failed.then(() => this.#machine.dispatch("stop"));
    const { supervisor } = this.context;
    if (supervisor === undefined) {
      this.#subscribeToPredecessor();
      if (settings.controlSocket !== false) this.#control = new ControlServer(this, emitter);
    } else this.#worker = this.#workUnder(supervisor);
  }

  get state(): State {
    return this.#machine.state;
  }

  /** Resolves when this process has drained, and a rollback is impossible. */
  get exit(): Promise<Outcome> {
    return this.#exit.promise;
  }

  /** @throws {HandoverError} if this process is being replaced or stopped: new work could not move */
  assertAcceptsNew(doing: string): void {
    assertAcceptsNew(this.state, doing);
  }

  async ready(): Promise<void> {
    this.assertAcceptsNew("get ready");
    const { settings, sockets, inventory, pidFile } = this.context;
    if (this.state.name === "starting") pidFile?.prepare();
    try {
      const { controlSocket } = settings;
      if (controlSocket !== false)
        await this.#control?.open(inheritedBinding(sockets, inventory), controlSocket);
    } catch (error) {
      pidFile?.discard();
      throw error;
    }
    await Promise.all([sockets.bound(), this.context.hosts?.check()]);
    this.#machine.dispatch("ready");
    await this.#startup.accepted;
    warnAboutListeners(settings.signals.upgrade);
    setImmediate(() => afterStart(this.context));
  }

  async upgrade(signal: AbortSignal | undefined, force = false): Promise<UpgradeResult> {
    try {
      if (this.#worker !== undefined) return await this.#worker.askToUpgrade(signal, force);
      return await this.#upgrade(signal, force);
    } catch (error) {
      this.#emit("failed", { error: toHandoverError(error, "ERR_INTERNAL", "upgrade") });
      throw error;
    }
  }

  async rehearse(signal: AbortSignal | undefined, force = false): Promise<Rehearsal> {
    if (this.#worker !== undefined) return this.#worker.askToRehearse(signal, force);
    return this.#attempts.rehearse(signal, force);
  }

  /** Starts a successor, and holds it for at most `ttl` ms once it is ready. If one is held already, it stays. */
  async stage(ttl?: number, signal?: AbortSignal, force = false): Promise<Staged> {
    if (this.#worker !== undefined) return this.#worker.askToStage(ttl, signal, force);
    return this.#attempts.stage(ttl, signal, force);
  }

  /** Ends the successor that is held. Returns it; undefined if there is none. */
  unstage(): Staged | undefined {
    if (this.#worker !== undefined) return this.#worker.askToUnstage();
    return this.#attempts.unstage();
  }

  async stop(): Promise<void> {
    if (this.#worker === undefined) this.#stopLater();
    else await this.#worker.askToStop();
    await this.#exit.promise;
  }

  /** Still accepts for `stopDelay`: the other hosts, and a load balancer, learn that this process stops. */
  #stopLater(): void {
    const { settings, hosts } = this.context;
    if (settings.stopDelay === 0 || this.state.name !== "ready") return this.#machine.dispatch("stop");
    if (this.#stopTimer !== undefined) return;
    void hosts?.announceDrain();
    this.#stopTimer = setTimeout(() => this.#machine.dispatch("stop"), settings.stopDelay);
  }

  /** Resolves when the drain is over, which is before {@link exit}. */
  async stopAndDrain(): Promise<{ outcome: Outcome } & DrainSummary> {
    this.#stopLater();
    return this.#drained.promise;
  }

  async status(): Promise<Status> {
    return statusOf(this.context, this.#attempted?.staged);
  }

  async inspect(): Promise<EngineReport | undefined> {
    return this.context.hosts?.inspect();
  }

  get #attempts(): Attempts {
    return (this.#attempted ??= new Attempts(this.context, {
      fromSuccessor: this.#fromSuccessor,
      dispatch: (event) => this.#machine.dispatch(event),
      request: (event) => this.#machine.request(event),
    }));
  }

  async #upgrade(signal: AbortSignal | undefined, force: boolean): Promise<UpgradeResult> {
    const requested = this.#attempts.request("upgrade", force);
    if (requested !== undefined) await requested;
    const { history, predecessors, settings } = this.context;
    const record = history.begin();
    try {
      if (predecessors.alive.length >= settings.maxDraining)
        throw stateError("ERR_TOO_MANY_DRAINING", "upgrade");
      if (signal?.aborted) throw abortError(signal);
      const { candidate, isStaged } = await this.#attempts.prepare(record, signal);
      const takeover = new Takeover(this.context, candidate, record, isStaged);
      try {
        await takeover.prepare();
        takeover.commit(signal);
      } catch (error) {
        throw await takeover.undo(error as Error);
      }
      // In the turn of the commit, without an `await` in between.
      this.#takeover = takeover;
      this.#machine.dispatch("committed");
      if (!takeover.isWatched) this.#machine.dispatch("acknowledged");
      return takeover.result;
    } catch (error) {
      this.#attempted?.end("failed");
      history.fail(record, "failed", toHandoverError(error, "ERR_INTERNAL", "upgrade"));
      throw error;
    }
  }

  #subscribeToPredecessor(): void {
    const { direct } = this.context.predecessors;
    if (direct === undefined) return;
    direct.subscribe(this.#fromPredecessor);
    void direct.failed.then((error) => {
      this.#emit("failed", { error });
      this.#startup.onChannelFailure(error);
    });
    void direct.gone.then((error) => {
      this.#startup.onPredecessorGone(error);
      if (error === undefined) this.#machine.dispatch("mayAccept");
      this.#machine.dispatch("confirmed");
      // It may have been killed during probation, with a file that it had prepared for a rollback.
      if (this.state.name === "ready") this.context.pidFile?.discardOf(direct.pid);
    });
  }

  #workUnder(supervisor: SupervisorLink): Worker {
    return new Worker(supervisor, this.context, {
      startup: this.#startup,
      dispatch: (event) => this.#machine.dispatch(event),
      request: (event) => this.#machine.request(event),
      replace: (takeover) => {
        this.#takeover = takeover;
        this.#machine.dispatch("committed");
      },
      progress: () => this.#progress,
      exitFromRehearsal: () => this.#exitFromRehearsal(),
    });
  }

  readonly #fromPredecessor: PredecessorListener = {
    commit: (others, ticketKeys) => {
      this.#startup.takeOver(others, ticketKeys);
      this.#machine.dispatch("mayAccept");
    },
    confirmed: () => this.#machine.dispatch("confirmed"),
    stopping: () => this.#machine.dispatch("peerStopping"),
    stage: (ttl) => this.#startup.stage(ttl),
    rehearsed: () => this.#exitFromRehearsal(),
  };

  readonly #fromSuccessor: SuccessorListener = {
    acknowledged: () => this.#machine.dispatch("acknowledged"),
    stopping: () => this.#machine.dispatch("peerStopping"),
    channelFailed: (error) => {
      this.#channelFailure = { error };
      this.#emit("failed", { error });
    },
    progress: () => this.#progress,
  };

  get #progress(): DrainProgress {
    return this.#shutdown?.progress ?? { connections: this.context.connections.size, moved: 0, remaining: 0 };
  }

  readonly #effects: Effects = {
    sendReady: () => {
      if (!this.#startup.sendReady()) this.#machine.dispatch("mayAccept");
    },
    accept: () => {
      if (this.context.controlLink?.isGone !== false) this.#machine.dispatch("confirmed");
      this.#startup.accept();
    },
    closeUnused: () => this.context.inventory.closeUnused(),
    acknowledge: () => this.#startup.acknowledge(),
    confirm: () => {
      const { inventory, predecessors, controlLink } = this.context;
      inventory.endLoan();
      predecessors.sendConfirmed();
      // No upgrade has started the first process.
      if (controlLink !== undefined) this.context.history.confirm();
      this.#startup.onConfirmed();
    },
    lendDescriptors: () => this.context.inventory.lend(),
    reclaimDescriptors: () => this.context.inventory.reclaim(),
    killSuccessor: () => this.#attempted?.kill(),
    killStaged: () => this.#attempted?.killStaged(),
    stopAccepting: () => this.context.sockets.stop(),
    emitUpgraded: () => {
      const { settled: _, ...upgraded } = this.#takeover!.result;
      this.#emit("upgraded", upgraded);
    },
    beginHandover: () => this.#beginShutdown(this.#takeover),
    beginProbation: () =>
      this.#takeover!.probation().then((death) =>
        this.#machine.dispatch(death === undefined ? "probationOver" : "successorDied"),
      ),
    confirmSuccessor: () => this.#takeover!.confirm(),
    cancelDrain: () => {
      const shutdown = this.#shutdown;
      this.#shutdown = undefined;
      runAll([
        () => shutdown?.cancel(),
        () => this.context.processState.rollBack(),
        // It tells the others of the fences that are skipped.
        () => this.context.hosts?.rollBack(),
      ]);
    },
    acceptAgain: () => this.context.sockets.resume(),
    reclaimChannels: () => this.#takeover!.reclaimChannels(),
    restorePidFile: () => this.context.pidFile?.publish(),
    reacquireRoles: () => this.#reacquireRoles(),
    emitRollback: () => {
      const { pid } = this.#takeover!;
      const error = this.#takeover!.recordRollback();
      this.#takeover = undefined;
      this.#attempted?.onRollback();
      this.#emit("rollback", { pid, error });
    },
    announceStop: () => {
      this.context.controlLink?.sendStopping();
      this.#takeover?.announceStop();
    },
    leavePredecessor: () => this.context.controlLink?.leave(),
    abandonStartup: () => {
      this.#startup.abandon(stateError("ERR_STOPPED", "get ready"));
      this.context.pidFile?.discard();
    },
    closeListeners: () => {
      this.context.sockets.closeSpares();
      // A client in the queue is refused now, rather than reset after a wait for a process that does not accept.
      this.context.inventory.closeUsed(new Set());
    },
    beginDrain: () => this.#beginShutdown(),
    exit: () => this.#leave(),
  };

  #beginShutdown(takeover?: Succession): void {
    const confirmed = takeover?.confirmed ?? Promise.resolve(true);
    const shutdown = new Shutdown(this.context, takeover?.exchange, confirmed);
    this.#shutdown = shutdown;
    // A rollback may have come at the same time.
    const isCurrent = (): boolean => this.#shutdown === shutdown;
    shutdown.drained.then(
      (summary) => {
        if (!isCurrent()) return;
        this.#summary = summary;
        this.#machine.dispatch("drained");
      },
      (error: unknown) => {
        if (isCurrent()) this.#onStepError(takeover === undefined ? "beginDrain" : "beginHandover", error);
      },
    );
  }

  async #reacquireRoles(): Promise<void> {
    if (this.#worker !== undefined) return this.#worker.acquireRoles();
    const { roles } = this.context.processState;
    for (const error of await roles.acquireAll()) this.#emit("failed", { error });
  }

  /** The candidate was started by a rehearsal: it leaves nothing behind. */
  #exitFromRehearsal(): void {
    const { inventory, pidFile, generation, env } = this.context;
    this.#emit("rehearsed", { generation });
    inventory.closeUsed(new Set());
    pidFile?.discard();
    env.exit(0);
  }

  /** However its steps fail, `exit` resolves: the program waits for it. */
  async #leave(): Promise<void> {
    const { outcome } = this.state as State & { name: "exited" };
    try {
      await closeEverything(this.context, outcome);
    } finally {
      this.#worker?.leave({ connections: this.#shutdown?.held ?? 0, summary: this.#summary });
      this.#emit("exit", { outcome, ...this.#channelFailure, ...this.#summary });
      if (outcome === "upgraded" && this.context.generation === 0 && this.#worker === undefined)
        announceSuccessor(this.#takeover!.pid);
      this.#drained.resolve({ outcome, ...this.#summary });
      await this.#waitForOthers(outcome).finally(() => {
        clearInterval(this.#hold);
        this.#exit.resolve(outcome);
        forceExitAfter(this.context.settings.exitTimeout, this.context.env.exit);
      });
    }
  }

  /** Clients of the control socket read their answers; other generations may still drain. */
  async #waitForOthers(outcome: Outcome): Promise<void> {
    await this.#control?.close(ANSWER_TIMEOUT);
    await this.#attempted?.ended();
    if (outcome === "stopped") await waitForGenerations(this.context, this.#takeover?.gone);
  }

  /** The other effects have run. The process must still end where this effect would have led to its end. */
  #onStepError(step: Step, cause: unknown): void {
    const message = `the step "${step}" of this process failed: ${reasonOf(cause)}`;
    process.emitWarning(message, { code: "HANDOVER_STEP" });
    const error =
      cause instanceof HandoverError ? cause : new HandoverError("ERR_INTERNAL", message, { cause });
    this.#emit("failed", { error });
    const next = INSTEAD_OF[step];
    if (next !== undefined) this.#machine.dispatch(next);
  }
}

/** The event that an effect would have led to. */
const INSTEAD_OF: Partial<Record<Step, Event>> = {
  beginHandover: "drained",
  beginDrain: "drained",
  beginProbation: "probationOver",
};

/** ms in which clients of the control socket have to read their answers. */
const ANSWER_TIMEOUT = 1_000;
