import { EventEmitter } from "node:events";
import type { ScalePhase, Status } from "../control/protocol.js";
import type { ControlEvents, ControlledProcess, Replacement } from "../control/session.js";
import { HandoverError } from "../errors.js";
import type { DrainSummary, Rehearsal, Staged, UpgradeRecord, UpgradeResult } from "../events.js";
import type { EngineReport } from "../exchange/hosts.js";
import type { Totals } from "../metrics/totals.js";
import { stateError, type Outcome } from "../lifecycle.js";
import type { Env } from "../process/env.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { deferred } from "../util/deferred.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { Operations } from "./operations.js";
import { report } from "./report.js";
import { ServiceListeners, type ListenersState } from "./service-listeners.js";
import { ServiceTotals } from "./service-totals.js";
import type { SupervisorSettings } from "./settings.js";
import { supervisorStatus } from "./supervisor-status.js";
import { WorkerCare } from "./worker-care.js";
import { WorkerPool, type PoolState } from "./worker-pool.js";
import { connectionsOf, type WorkerListener, type WorkerProcess } from "./worker-process.js";
import { WorkerRequests } from "./worker-requests.js";

/** The service, as another supervisor takes it over. */
export interface ServiceState {
  generation: number;
  upgrades: UpgradeRecord[];
  totals: Totals;
  workers: PoolState;
  listeners: ListenersState;
}

/**
 * The process that keeps its PID while its workers are replaced. It owns the listeners, starts each worker and starts it again
 * when it dies, and drives the upgrades. No connection passes through it.
 */
export class Supervisor implements ControlledProcess {
  readonly settings: SupervisorSettings;
  /** The events of upgrades, for the control socket. */
  readonly events = new EventEmitter<ControlEvents>();
  readonly listeners: ServiceListeners;
  readonly pool: WorkerPool;
  readonly totals = new ServiceTotals();
  readonly #env: Env;
  readonly #care: WorkerCare;
  readonly #operations: Operations;
  readonly #requests: WorkerRequests;
  readonly #ready = deferred<void>();
  readonly #ended = deferred<number>();
  #state: "starting" | "ready" | "stopping" | "ended" = "starting";
  /** Replaces this program by its next version. */
  replaceProgram: (() => Promise<Replacement>) | undefined;
  /** How the last try of that ended. */
  lastReplacement: Status["replacement"];

  /** @param activated the sockets that systemd has passed */
  constructor(settings: SupervisorSettings, env: Env, activated: readonly InventoryItem[]) {
    this.settings = settings;
    this.#env = env;
    const by = settings.sticky === "ip" ? "source" : "random";
    this.listeners = new ServiceListeners(
      {
        isAccepting: (index) => this.#care.isServing(index),
        waiting: () => this.#waiting.flatMap(({ used }) => [...used]),
        lend: ({ member, to }, name, fd) => this.pool.acceptor(to)?.lend(name, member, fd),
        unlend: ({ member, to }, name) => this.pool.acceptor(to)?.unlend(name, member),
      },
      by,
      activated,
    );
    this.pool = new WorkerPool(settings, env, {
      listener: this.#fromWorker,
      listeners: this.listeners,
      generation: () => this.generation,
      isStopping: () => this.#isStopping,
      newWorker: (index) => this.#operations.upgrades.news.get(index),
      onDeath: (index) => this.#onDeath(index),
      changed: () => this.#onServing(),
      allFailed: () => {
        report("every worker has failed: the service ends");
        this.#stop(1);
      },
    });
    this.#care = new WorkerCare(settings, {
      clock: env.clock,
      pool: this.pool,
      changed: () => this.listeners.steer(),
      isIdle: () => this.#state === "ready" && !this.#operations.isBusy,
      restart: async (index) => this.restart(index),
    });
    this.#operations = new Operations(settings, {
      env,
      pool: this.pool,
      listeners: this.listeners,
      events: this.events,
      totals: this.totals,
      care: this.#care,
      isStarting: () => this.#state === "starting",
      isStopping: () => this.#isStopping,
      stop: () => this.stop(),
    });
    this.#requests = new WorkerRequests(
      this.listeners,
      this.pool.units,
      async (...asked) => this.#operations.perform(...asked),
      (error) => this.#onTaken(error),
    );
  }

  get state(): Status["state"] {
    switch (this.#state) {
      case "ready":
        return this.#operations.upgrades.isBusy ? "upgrading" : "ready";
      case "stopping":
        return "draining";
      case "ended":
        return "exited";
      default:
        return "starting";
    }
  }

  get generation(): number {
    return this.#operations.upgrades.generation;
  }

  get upgrades(): readonly UpgradeRecord[] {
    return this.#operations.upgrades.records;
  }

  get staged(): Staged | undefined {
    return this.#operations.trial.staged;
  }

  /** Of all workers, as of their last heartbeats. */
  get connections(): number {
    return connectionsOf(this.#workers);
  }

  /** Resolves when a worker accepts, and the others do or have died; or at a stop. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Resolves with the exit code when the service has stopped, or every worker has failed. */
  get ended(): Promise<number> {
    return this.#ended.promise;
  }

  /** Starts the workers. */
  start(): void {
    this.pool.startMissing();
    this.#care.start();
  }

  /** For {@link restore}. */
  get serviceState(): ServiceState {
    return {
      generation: this.generation,
      upgrades: [...this.upgrades],
      totals: this.totals.all,
      workers: this.pool.state,
      listeners: this.listeners.state,
    };
  }

  /** Goes on with the service of the program that this process was before, in place of {@link start}. */
  restore({ generation, upgrades, totals, workers, listeners }: ServiceState): void {
    this.#operations.upgrades.restore(generation, upgrades);
    this.totals.restore(totals);
    this.listeners.restore(listeners);
    this.pool.restore(workers);
    this.#state = "ready";
    this.#ready.resolve();
  }

  /** What {@link restore} has restored is to go on by itself from now on. */
  goOn(): void {
    for (const worker of this.pool.living()) if (worker.isAccepting) this.#care.begin(worker);
    this.#care.start();
    this.pool.roles.assign();
    this.pool.startMissing();
    this.listeners.steer();
  }

  /** As {@link Operations.beginReplacement}. */
  beginReplacement(): void {
    this.#operations.beginReplacement();
  }

  endReplacement(): void {
    this.#operations.endReplacement();
  }

  /** Whether all that is known of the workers is in {@link serviceState}, or waits in their channels. */
  get isQuiet(): boolean {
    return this.#state === "ready" && this.pool.isQuiet && this.#requests.isQuiet;
  }

  async upgradeSupervisor(): Promise<Replacement> {
    if (this.replaceProgram === undefined)
      throw new HandoverError("ERR_NOT_SUPPORTED", "this supervisor is not a program of its own");
    return this.replaceProgram();
  }

  async upgrade(signal?: AbortSignal): Promise<UpgradeResult> {
    return this.#operations.upgrade(signal);
  }

  async restart(index?: number, signal?: AbortSignal): Promise<UpgradeResult> {
    return this.#operations.restart(index, signal);
  }

  async scale(
    workers: number,
    onPhase: (phase: ScalePhase) => void,
  ): Promise<{ from: number; workers: number }> {
    return this.#operations.scale(workers, onPhase);
  }

  async rehearse(signal?: AbortSignal): Promise<Rehearsal> {
    return this.#operations.rehearse(signal);
  }

  async stage(ttl?: number, signal?: AbortSignal): Promise<Staged> {
    return this.#operations.stage(ttl, signal);
  }

  unstage(): Staged | undefined {
    return this.#operations.unstage();
  }

  async stopAndDrain(): Promise<{ outcome: Outcome } & DrainSummary> {
    this.stop();
    await this.ended;
    return { outcome: "stopped", ...this.totals.stopped };
  }

  async status(): Promise<Status> {
    return supervisorStatus(this, this.#env);
  }

  /** By one of the workers: they all use the same engine. */
  async inspect(): Promise<EngineReport | undefined> {
    return [...this.pool.serving().values()].find(({ hosts }) => hosts !== undefined)?.inspect();
  }

  /** Stops every worker. The service has ended when {@link ended} resolves. */
  stop(): void {
    this.#stop(0);
  }

  /** Sends a signal to the workers that accept or drain: one that starts may have no handler yet, and would die. */
  signalWorkers(name: NodeJS.Signals): void {
    for (const worker of this.#workers) if (worker.isCommitted) worker.signal(name);
  }

  /** Kills every worker. */
  killWorkers(): void {
    for (const worker of this.#workers) worker.fail(stateError("ERR_STOPPED", "drain"));
  }

  /** An upgrade that has begun to commit has two generations. */
  get #workers(): Set<WorkerProcess> {
    return new Set([...this.pool.living(), ...this.#operations.upgrades.news.values()]);
  }

  /** The workers that are, or may soon be, the ones that accept. */
  get #waiting(): WorkerProcess[] {
    const currents = this.pool.records.flatMap(({ current }) => current ?? []);
    const { upgrades, trial } = this.#operations;
    return [...currents, ...upgrades.news.values(), ...upgrades.waiting, ...trial.workers];
  }

  get #isStopping(): boolean {
    return this.#state === "stopping" || this.#state === "ended";
  }

  /** No worker serves yet, and none can: a restart of each would fail in the same way. */
  #onTaken(error: HandoverError): boolean {
    if (this.#state !== "starting" || this.pool.serving().size > 0) return this.#isStopping;
    report(`${error.message}: the service ends`);
    this.#stop(1);
    this.killWorkers();
    return true;
  }

  #stop(code: number): void {
    if (this.#isStopping) return;
    this.#state = "stopping";
    this.totals.beginStop();
    const timeout = this.settings.stopTimeout ?? 0;
    this.events.emit("draining", { connections: this.connections, timeout });
    this.#ready.resolve();
    this.#operations.stop();
    this.#care.stop();
    this.pool.cancelRestarts();
    void this.#stopWorkers().then(() => {
      this.#state = "ended";
      this.listeners.closeAll();
      this.#ended.resolve(code);
    });
  }

  async #stopWorkers(): Promise<void> {
    const all = this.#workers;
    for (const worker of all) worker.stop();
    const dead = Promise.all([...all].map(async (worker) => worker.deadOrUnkillable));
    const { stopTimeout } = this.settings;
    if (stopTimeout !== undefined && (await withTimeout(stopTimeout, dead)) === TIMED_OUT) {
      const reason = new HandoverError(
        "ERR_STOPPED",
        `it did not stop within ${stopTimeout} ms, and was killed`,
      );
      for (const worker of all) worker.fail(reason);
    }
    await dead;
    // One that was still being started is killed when it has been.
    await this.#operations.upgrades.ended;
  }

  readonly #fromWorker: WorkerListener = {
    admit: async (worker) => this.#care.admit(worker),
    ready: (worker) => {
      if (this.#operations.upgrades.onReady(worker) || !this.pool.isCurrent(worker) || worker.isCommitted)
        return;
      if (this.#operations.scaling?.holds(worker) !== true) this.pool.admit(worker);
    },
    acknowledged: (worker) => {
      this.listeners.setUsed(worker.index, worker.used);
      this.#care.begin(worker);
      if (this.#operations.upgrades.onAcknowledged(worker)) return;
      worker.confirm();
      this.#onServing();
    },
    yielded: (worker, failure) => {
      this.#operations.upgrades.onYielded(worker, failure);
      this.#operations.scaling?.answered(worker, "yielded", failure);
    },
    ceased: (worker, fence) => {
      this.pool.roles.advanceFence(fence);
      this.#operations.upgrades.onCeased(worker);
      this.#operations.scaling?.answered(worker, "ceased");
    },
    rolesRefused: (worker, reason, fence) => {
      this.pool.roles.onRefused(worker, reason, fence);
      this.#assignRoles();
    },
    resumed: (worker) => {
      this.#operations.upgrades.onResumed(worker);
      this.#operations.scaling?.answered(worker, "resumed");
    },
    rebalanced: (worker, moved) => this.#care.onRebalanced(worker, moved),
    silent: (worker, silence) => this.#onSilence(worker, silence),
    request: (worker, request) => this.#requests.receive(worker, request),
    keep: (worker, entry, fd) => {
      if (this.pool.isCurrent(worker)) this.listeners.kept.keep(worker.index, entry, fd);
      else this.listeners.kept.hold(worker, entry.name, { ...entry, fd });
    },
    release: (worker, name) => {
      if (this.pool.isCurrent(worker)) this.listeners.release(worker.index, name);
      else this.listeners.kept.hold(worker, name, undefined);
    },
    gone: (worker) => {
      this.listeners.kept.drop(worker);
      this.totals.add(worker.departure);
    },
  };

  #onServing(): void {
    this.listeners.steer();
    this.#operations.scaling?.changed();
    if (this.#state !== "starting" || !this.pool.isSettled) return;
    this.#state = "ready";
    this.#ready.resolve();
    this.events.emit("ready", { generation: this.generation });
  }

  #onSilence(worker: WorkerProcess, silence: number): void {
    this.#care.onSilence(worker, silence);
    this.#operations.upgrades.onSilence(worker, silence);
  }

  #assignRoles(): void {
    if (!this.#operations.upgrades.assignsRoles) this.pool.roles.assign();
  }

  /** A worker that serves has died. Returns whether an upgrade or a scaling takes note of it. */
  #onDeath(index: number): boolean {
    this.#assignRoles();
    return this.#operations.upgrades.onDeath(index) || this.#operations.scaling?.died(index) === true;
  }
}
