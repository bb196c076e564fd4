import { reasonOf } from "../errors.js";
import { memoryOf } from "../platform/memory.js";
import type { UpgradeResult } from "../events.js";
import type { Clock } from "../util/clock.js";
import { HangWatch } from "./hang-watch.js";
import { HealthChecks } from "./health-checks.js";
import { MemoryWatch } from "./memory-watch.js";
import { Rebalancer } from "./rebalancer.js";
import { report } from "./report.js";
import type { SupervisorSettings } from "./settings.js";
import type { WorkerPool } from "./worker-pool.js";
import type { WorkerProcess } from "./worker-process.js";

/** The service that the workers belong to. */
interface CareHost {
  readonly clock: Clock;
  readonly pool: WorkerPool;
  /** Other workers are to get the new connections. */
  changed(): void;
  /** Whether a worker can be replaced now. */
  isIdle(): boolean;
  restart(index: number): Promise<UpgradeResult>;
}

/**
 * Finds the workers that hang, that are not healthy and that have too much memory, and replaces them; and lets connections move
 * from a worker that has far more than the others.
 */
export class WorkerCare {
  readonly #host: CareHost;
  readonly #hangs: HangWatch;
  readonly #health: HealthChecks;
  readonly #memory: MemoryWatch;
  readonly #rebalancer: Rebalancer | undefined;

  constructor(settings: SupervisorSettings, host: CareHost) {
    const { clock, pool } = host;
    const { hangTimeout, maxMemory } = settings;
    this.#host = host;
    this.#hangs = new HangWatch({
      clock,
      hangTimeout,
      pool,
      changed: () => host.changed(),
      replace: (worker, reason) => this.#renew(worker, `is not healthy (${reason})`) !== undefined,
    });
    this.#health = new HealthChecks(settings, {
      clock,
      isResponding: (worker) => this.#hangs.isResponding(worker),
      isServing: (worker) => worker.isAccepting,
      judged: (worker, sick) => this.#hangs.setHealth(worker, sick),
    });
    this.#memory = new MemoryWatch({
      clock,
      maxMemory,
      workers: () => pool.serving().values(),
      memoryOf,
      renew: (worker, why) => this.#renew(worker, why),
    });
    const isWell = (worker: WorkerProcess): boolean => this.#hangs.isWell(worker);
    // A sticky client would come to another worker than its connections.
    if (settings.rebalance && settings.sticky === undefined)
      this.#rebalancer = new Rebalancer({
        clock,
        isIdle: () => host.isIdle(),
        workers: () => new Map([...pool.serving()].filter(([, worker]) => isWell(worker))),
      });
  }

  start(): void {
    this.#memory.start();
    this.#rebalancer?.start();
  }

  /** Whether a worker responds, and is healthy. */
  isWell(worker: WorkerProcess): boolean {
    return this.#hangs.isWell(worker);
  }

  stop(): void {
    this.#memory.stop();
    this.#rebalancer?.stop();
  }

  /** Ends the move of connections that is under way. Resolves when it is over. */
  async endRebalance(): Promise<void> {
    await this.#rebalancer?.end();
  }

  /** A worker has moved connections to another one. */
  onRebalanced(worker: WorkerProcess, moved: number): void {
    this.#rebalancer?.onRebalanced(worker, moved);
  }

  /** Whether new connections go to the worker of an index. */
  isServing(index: number): boolean {
    return this.#hangs.isServing(index);
  }

  /** Resolves when a worker that is ready may accept; stays pending if it was killed instead. */
  async admit(worker: WorkerProcess): Promise<void> {
    return this.#health.admit(worker);
  }

  /** Why a worker that waits to accept is no longer healthy. */
  async sicknessOf(worker: WorkerProcess): Promise<string | undefined> {
    return this.#health.sicknessOf(worker);
  }

  /** A worker has begun to accept. */
  begin(worker: WorkerProcess): void {
    this.#health.watch(worker);
    this.#memory.begin(worker);
  }

  /** @param silence ms since its last heartbeat */
  onSilence(worker: WorkerProcess, silence: number): void {
    this.#hangs.onSilence(worker, silence);
  }

  /**
   * Starts a new worker beside one that is to be replaced, and replaces it if the new one gets ready. Resolves at the end;
   * undefined if that cannot begin now.
   */
  #renew(worker: WorkerProcess, why: string): Promise<void> | undefined {
    const { index, pid } = worker;
    if (!this.#host.isIdle() || !this.#host.pool.isCurrent(worker)) return undefined;
    report(`worker ${index} (pid ${pid}) ${why}: a new one replaces it`);
    const failed = (error: unknown): void => report(`cannot replace worker ${index}: ${reasonOf(error)}`);
    return this.#host.restart(index).then(async ({ settled }) => void (await settled), failed);
  }
}
