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
import { abortReason } from "./abort-reason.js";
import { report } from "./report.js";
import { chooseRolling } from "./rolling.js";
import { ServiceListeners, type ListenersState } from "./service-listeners.js";
import { ServiceTotals } from "./service-totals.js";
import { MOST_WORKERS, type SupervisorSettings } from "./settings.js";
import { supervisorStatus } from "./supervisor-status.js";
import { Trial, type StagedWorkers } from "./trial.js";
import { Scaling } from "./scaling.js";
import { Upgrades } from "./upgrades.js";
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
  readonly #trial: Trial;
  readonly #requests: WorkerRequests;
  readonly #ready = deferred<void>();
  readonly #ended = deferred<number>();
  readonly #upgrades: Upgrades;
  #state: "starting" | "ready" | "stopping" | "ended" = "starting";
  #scaling: Scaling | undefined;
  #isReplacing = false;
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
      newWorker: (index) => this.#upgrades.news.get(index),
      onDeath: (index) => this.#onDeath(index),
      changed: () => this.#onServing(),
      allFailed: () => {
        report("every worker has failed: the service ends");
        this.#stop(1);
      },
    });
    this.#upgrades = new Upgrades(settings, {
      env,
      pool: this.pool,
      listeners: this.listeners,
      events: this.events,
      totals: this.totals,
      isStopping: () => this.#isStopping,
    });
    this.#care = new WorkerCare(settings, {
      clock: env.clock,
      pool: this.pool,
      changed: () => this.listeners.steer(),
      isIdle: () =>
        this.state === "ready" && !this.#trial.isBusy && this.#scaling === undefined && !this.#isReplacing,
      restart: async (index) => this.restart(index),
    });
    this.#trial = new Trial(settings, env, this.pool, {
      started: (generation, workers) => this.events.emit("upgrading", { pid: env.pid, generation, workers }),
      ready: (ready, workers) => this.events.emit("workerReady", { ready, workers }),
      unstaged: ({ expires: _, ...staged }, reason) => this.events.emit("unstaged", { ...staged, reason }),
      sicknessOf: async (worker) => this.#care.sicknessOf(worker),
      ended: () => this.listeners.closeUnused(),
    });
    this.#requests = new WorkerRequests(
      this.listeners,
      this.pool.units,
      async (operation, ttl, signal) => {
        switch (operation) {
          case "upgrade": {
            const { settled: _, ...result } = await this.upgrade(signal);
            return result;
          }
          case "rehearse":
            return { ...(await this.rehearse(signal)) };
          case "stage":
            return { ...(await this.stage(ttl, signal)) };
          case "unstage":
            return { ...this.unstage() };
          default:
            this.stop();
            return {};
        }
      },
      (error) => this.#onTaken(error),
    );
  }

  get state(): Status["state"] {
    switch (this.#state) {
      case "ready":
        return this.#upgrades.isBusy ? "upgrading" : "ready";
      case "stopping":
        return "draining";
      case "ended":
        return "exited";
      default:
        return "starting";
    }
  }

  get generation(): number {
    return this.#upgrades.generation;
  }

  get upgrades(): readonly UpgradeRecord[] {
    return this.#upgrades.records;
  }

  get staged(): Staged | undefined {
    return this.#trial.staged;
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
    this.#upgrades.restore(generation, upgrades);
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

  /**
   * Nothing else begins from now on, until {@link endReplacement}: another program is to go on with the service.
   *
   * @throws {HandoverError} `ERR_NOT_READY`, `ERR_STOPPED`, `ERR_UPGRADE_IN_PROGRESS`
   */
  beginReplacement(): void {
    this.#assertIdle("upgrade the supervisor");
    this.#trial.unstage("the supervisor is upgraded");
    this.#isReplacing = true;
  }

  endReplacement(): void {
    this.#isReplacing = false;
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
    await this.#assertReplaceable("upgrade", this.pool.indexes, signal);
    if (this.pool.isCrowded) throw stateError("ERR_TOO_MANY_DRAINING", "upgrade");
    await this.#care.endRebalance();
    await this.#trial.check();
    this.#assertIdle("upgrade");
    const staged = this.#trial.take();
    const { indexes } = this.pool;
    const rolling = this.#rollingFor(indexes, staged);
    return this.#upgrades.replace(indexes, rolling, this.generation + 1, staged, signal);
  }

  /** Workers that are staged have their memory already. */
  #rollingFor({ length }: readonly number[], staged: StagedWorkers | undefined): number {
    const pids = [...this.pool.serving().values()].map(({ pid }) => pid);
    return this.settings.rolling ?? (staged === undefined ? chooseRolling(pids, length) : length);
  }

  /**
   * Replaces the worker of one index by the code of today; without an index each worker, one at a time. The generation stays.
   *
   * @throws {HandoverError} `ERR_OPTION` if there is no such worker; as {@link upgrade}
   */
  async restart(index?: number, signal?: AbortSignal): Promise<UpgradeResult> {
    const doing = index === undefined ? "restart the workers" : `restart worker ${index}`;
    const indexes = this.#indexesOf(index);
    await this.#assertReplaceable(doing, indexes, signal);
    await this.#care.endRebalance();
    this.#assertIdle(doing);
    // The number of workers may have changed meanwhile.
    return this.#upgrades.replace(this.#indexesOf(index), 1, this.generation, undefined, signal);
  }

  /** The index, which must be that of a worker; without one all. */
  #indexesOf(index: number | undefined): number[] {
    if (index === undefined) return this.pool.indexes;
    const { length } = this.pool.records;
    if (Number.isInteger(index) && index >= 0 && index < length) return [index];
    const message = `there is no worker ${index}: the service has ${length}, from 0 on`;
    throw new HandoverError("ERR_OPTION", message);
  }

  /**
   * Changes the number of workers. Resolves when the new ones accept, or those that leave have begun to move what they have.
   *
   * @throws {HandoverError} `ERR_OPTION` for a number that is not from 1 to 253; `ERR_CEASE_TIMEOUT`, `ERR_CHILD_EXITED`,
   *   `ERR_NOT_READY`, `ERR_ROLE`: nothing has changed; `ERR_STOPPED`, `ERR_UPGRADE_IN_PROGRESS`
   */
  async scale(
    workers: number,
    onPhase: (phase: ScalePhase) => void,
  ): Promise<{ from: number; workers: number }> {
    if (!Number.isInteger(workers) || workers < 1 || workers > MOST_WORKERS) {
      const message = `the number of workers must be a whole number from 1 to ${MOST_WORKERS}, not ${JSON.stringify(workers)}`;
      throw new HandoverError("ERR_OPTION", message);
    }
    this.#assertIdle("scale");
    await this.#care.endRebalance();
    this.#assertIdle("scale");
    const from = this.pool.records.length;
    const isWell = (worker: WorkerProcess): boolean => this.#care.isWell(worker);
    const scaling = new Scaling(this.pool, this.listeners, this.#env.clock, isWell, onPhase);
    this.#scaling = scaling;
    try {
      await scaling.run(workers);
      return { from, workers };
    } finally {
      this.#scaling = undefined;
    }
  }

  async rehearse(signal?: AbortSignal): Promise<Rehearsal> {
    const doing = "rehearse an upgrade";
    await this.#assertReplaceable(doing, this.pool.indexes, signal);
    this.#assertIdle(doing);
    return this.#trial.rehearse(this.generation + 1, signal);
  }

  async stage(ttl = DEFAULT_TTL, signal?: AbortSignal): Promise<Staged> {
    const doing = "stage an upgrade";
    if (this.staged !== undefined) return this.staged;
    await this.#assertReplaceable(doing, this.pool.indexes, signal);
    if (this.staged !== undefined) return this.staged;
    this.#assertIdle(doing);
    const staged = await this.#trial.stage(this.generation + 1, ttl, signal);
    this.events.emit("staged", staged);
    return staged;
  }

  unstage(): Staged | undefined {
    return this.#trial.unstage("it was unstaged");
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
    return new Set([...this.pool.living(), ...this.#upgrades.news.values()]);
  }

  /** The workers that are, or may soon be, the ones that accept. */
  get #waiting(): WorkerProcess[] {
    const currents = this.pool.records.flatMap(({ current }) => current ?? []);
    return [...currents, ...this.#upgrades.news.values(), ...this.#trial.workers];
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
    this.#trial.stop();
    this.#care.stop();
    this.#upgrades.stop();
    this.#scaling?.stop();
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
    await this.#upgrades.ended;
  }

  #assertIdle(doing: string): void {
    if (this.#state === "starting") throw stateError("ERR_NOT_READY", doing);
    if (this.#state !== "ready") throw stateError("ERR_STOPPED", doing);
    if (this.#upgrades.isBusy || this.#trial.isBusy) throw stateError("ERR_UPGRADE_IN_PROGRESS", doing);
    if (this.#isReplacing)
      throw new HandoverError("ERR_UPGRADE_IN_PROGRESS", `cannot ${doing}: the supervisor is being upgraded`);
    if (this.#scaling === undefined) return;
    const message = `cannot ${doing}: the number of workers is being changed`;
    throw new HandoverError("ERR_UPGRADE_IN_PROGRESS", message);
  }

  /**
   * Asks the workers of these indexes whether an upgrade would lose something. Several requests may wait for the answers: the
   * caller must look at the state again, in the turn in which it begins.
   *
   * @throws {HandoverError} `ERR_UNMANAGED_LISTENER`, `ERR_ABORTED`, or the error of the state
   */
  async #assertReplaceable(
    doing: string,
    indexes: readonly number[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    this.#assertIdle(doing);
    const workers = [...this.pool.serving(indexes).values()];
    await Promise.all(workers.map(async (worker) => worker.assertReplaceable()));
    if (signal?.aborted) throw abortReason(signal);
  }

  readonly #fromWorker: WorkerListener = {
    admit: async (worker) => this.#care.admit(worker),
    ready: (worker) => {
      if (this.#upgrades.onReady(worker) || !this.pool.isCurrent(worker) || worker.isCommitted) return;
      if (this.#scaling?.holds(worker) !== true) this.pool.admit(worker);
    },
    acknowledged: (worker) => {
      this.listeners.setUsed(worker.index, worker.used);
      this.#care.begin(worker);
      if (this.#upgrades.onAcknowledged(worker)) return;
      worker.confirm();
      this.#onServing();
    },
    yielded: (worker, failure) => {
      this.#upgrades.onYielded(worker, failure);
      this.#scaling?.answered(worker, "yielded", failure);
    },
    ceased: (worker, fence) => {
      this.pool.roles.advanceFence(fence);
      this.#upgrades.onCeased(worker);
      this.#scaling?.answered(worker, "ceased");
    },
    rolesRefused: (worker, reason, fence) => {
      this.pool.roles.onRefused(worker, reason, fence);
      this.#assignRoles();
    },
    resumed: (worker) => {
      this.#upgrades.onResumed(worker);
      this.#scaling?.answered(worker, "resumed");
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
    this.#scaling?.changed();
    if (this.#state !== "starting" || !this.pool.isSettled) return;
    this.#state = "ready";
    this.#ready.resolve();
    this.events.emit("ready", { generation: this.generation });
  }

  #onSilence(worker: WorkerProcess, silence: number): void {
    this.#care.onSilence(worker, silence);
    this.#upgrades.onSilence(worker, silence);
  }

  #assignRoles(): void {
    if (!this.#upgrades.assignsRoles) this.pool.roles.assign();
  }

  /** A worker that serves has died. Returns whether an upgrade or a scaling takes note of it. */
  #onDeath(index: number): boolean {
    this.#assignRoles();
    return this.#upgrades.onDeath(index) || this.#scaling?.died(index) === true;
  }
}

/** ms that staged workers wait for their upgrade. */
const DEFAULT_TTL = 60_000;
