import type { EventEmitter } from "node:events";
import type { Operation } from "../channel/messages.js";
import type { ScalePhase } from "../control/protocol.js";
import type { ControlEvents } from "../control/session.js";
import { HandoverError } from "../errors.js";
import type { Rehearsal, Staged, UpgradeResult } from "../events.js";
import { stateError } from "../lifecycle.js";
import type { Env } from "../process/env.js";
import { abortReason } from "./abort-reason.js";
import { chooseRolling } from "./rolling.js";
import { Scaling } from "./scaling.js";
import type { ServiceListeners } from "./service-listeners.js";
import type { ServiceTotals } from "./service-totals.js";
import { MOST_WORKERS, type SupervisorSettings } from "./settings.js";
import { Trial, type StagedWorkers } from "./trial.js";
import { Upgrades } from "./upgrades.js";
import type { WorkerCare } from "./worker-care.js";
import type { WorkerPool } from "./worker-pool.js";
import type { WorkerProcess } from "./worker-process.js";

/** The service on which the operations are performed. */
interface OperationsHost {
  readonly env: Env;
  readonly pool: WorkerPool;
  readonly listeners: ServiceListeners;
  readonly events: EventEmitter<ControlEvents>;
  readonly totals: ServiceTotals;
  readonly care: WorkerCare;
  /** Whether no worker has accepted yet. */
  isStarting(): boolean;
  isStopping(): boolean;
  stop(): void;
}

/**
 * The operations on all workers: upgrades, restarts, rehearsals, staging, scaling, and the replacement of the supervisor's own
 * program. One is under way at a time.
 */
export class Operations {
  readonly #settings: SupervisorSettings;
  readonly #host: OperationsHost;
  readonly upgrades: Upgrades;
  readonly trial: Trial;
  #scaling: Scaling | undefined;
  #isReplacing = false;

  constructor(settings: SupervisorSettings, host: OperationsHost) {
    const { env, pool, events, listeners, care } = host;
    this.#settings = settings;
    this.#host = host;
    this.upgrades = new Upgrades(settings, host);
    this.trial = new Trial(settings, env, pool, {
      started: (generation, workers) => events.emit("upgrading", { pid: env.pid, generation, workers }),
      ready: (ready, workers) => events.emit("workerReady", { ready, workers }),
      unstaged: ({ expires: _, ...staged }, reason) => events.emit("unstaged", { ...staged, reason }),
      sicknessOf: async (worker) => care.sicknessOf(worker),
      ended: () => listeners.closeUnused(),
    });
  }

  get staged(): Staged | undefined {
    return this.trial.staged;
  }

  /** The change of the number of workers that is under way. */
  get scaling(): Scaling | undefined {
    return this.#scaling;
  }

  /** Whether an operation is under way, so that no other one can begin. */
  get isBusy(): boolean {
    return this.upgrades.isBusy || this.trial.isBusy || this.#scaling !== undefined || this.#isReplacing;
  }

  /** Performs what a worker asks for. */
  async perform(
    operation: Operation,
    ttl: number | undefined,
    signal: AbortSignal,
  ): Promise<Record<string, unknown>> {
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
        this.#host.stop();
        return {};
    }
  }

  async upgrade(signal?: AbortSignal): Promise<UpgradeResult> {
    const { pool, care } = this.#host;
    await this.#assertReplaceable("upgrade", pool.indexes, signal);
    if (pool.isCrowded) throw stateError("ERR_TOO_MANY_DRAINING", "upgrade");
    await care.endRebalance();
    await this.trial.check();
    this.#assertIdle("upgrade");
    const staged = this.trial.take();
    const { indexes } = pool;
    const rolling = this.#rollingFor(indexes, staged);
    return this.upgrades.replace(indexes, rolling, this.upgrades.generation + 1, staged, signal);
  }

  /** Workers that are staged have their memory already. */
  #rollingFor({ length }: readonly number[], staged: StagedWorkers | undefined): number {
    const pids = [...this.#host.pool.serving().values()].map(({ pid }) => pid);
    return this.#settings.rolling ?? (staged === undefined ? chooseRolling(pids, length) : length);
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
    await this.#host.care.endRebalance();
    this.#assertIdle(doing);
    // The number of workers may have changed meanwhile.
    return this.upgrades.replace(this.#indexesOf(index), 1, this.upgrades.generation, undefined, signal);
  }

  /** The index, which must be that of a worker; without one all. */
  #indexesOf(index: number | undefined): number[] {
    const { indexes } = this.#host.pool;
    if (index === undefined) return indexes;
    const { length } = indexes;
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
    const { pool, listeners, env, care } = this.#host;
    this.#assertIdle("scale");
    await care.endRebalance();
    this.#assertIdle("scale");
    const from = pool.records.length;
    const isWell = (worker: WorkerProcess): boolean => care.isWell(worker);
    const scaling = new Scaling(pool, listeners, env.clock, isWell, onPhase);
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
    await this.#assertReplaceable(doing, this.#host.pool.indexes, signal);
    this.#assertIdle(doing);
    return this.trial.rehearse(this.upgrades.generation + 1, signal);
  }

  /** @param ttl in ms; by default {@link DEFAULT_TTL} */
  async stage(ttl = DEFAULT_TTL, signal?: AbortSignal): Promise<Staged> {
    const doing = "stage an upgrade";
    if (this.staged !== undefined) return this.staged;
    await this.#assertReplaceable(doing, this.#host.pool.indexes, signal);
    if (this.staged !== undefined) return this.staged;
    this.#assertIdle(doing);
    const staged = await this.trial.stage(this.upgrades.generation + 1, ttl, signal);
    this.#host.events.emit("staged", staged);
    return staged;
  }

  unstage(): Staged | undefined {
    return this.trial.unstage("it was unstaged");
  }

  /**
   * Nothing else begins from now on, until {@link endReplacement}: another program is to go on with the service.
   *
   * @throws {HandoverError} `ERR_NOT_READY`, `ERR_STOPPED`, `ERR_UPGRADE_IN_PROGRESS`
   */
  beginReplacement(): void {
    this.#assertIdle("upgrade the supervisor");
    this.trial.unstage("the supervisor is upgraded");
    this.#isReplacing = true;
  }

  endReplacement(): void {
    this.#isReplacing = false;
  }

  /** The service stops: what is under way is given up. */
  stop(): void {
    this.trial.stop();
    this.upgrades.stop();
    this.#scaling?.stop();
  }

  #assertIdle(doing: string): void {
    if (this.#host.isStarting()) throw stateError("ERR_NOT_READY", doing);
    if (this.#host.isStopping()) throw stateError("ERR_STOPPED", doing);
    if (this.upgrades.isBusy || this.trial.isBusy) throw stateError("ERR_UPGRADE_IN_PROGRESS", doing);
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
    const workers = [...this.#host.pool.serving(indexes).values()];
    await Promise.all(workers.map(async (worker) => worker.assertReplaceable()));
    if (signal?.aborted) throw abortReason(signal);
  }
}

/** ms that staged workers wait for their upgrade. */
const DEFAULT_TTL = 60_000;
