import { HandoverError, reasonOf, toHandoverError } from "../errors.js";
import type { Rehearsal, Staged } from "../events.js";
import type { Env } from "../process/env.js";
import { changeOf, identifyLaunch, type LaunchIdentity } from "../process/launch-identity.js";
import { deferred } from "../util/deferred.js";
import { abortReason } from "./abort-reason.js";
import type { SupervisorSettings } from "./settings.js";
import { workerCommand } from "./worker-command.js";
import type { WorkerPool } from "./worker-pool.js";
import type { WorkerProcess } from "./worker-process.js";

/** New workers that are ready, and wait for an upgrade. */
export interface StagedWorkers {
  readonly workers: ReadonlyMap<number, WorkerProcess>;
  readonly staged: Staged;
  readonly launch: LaunchIdentity;
  readonly cancelExpiry: () => void;
}

/** What becomes of new workers, for those who watch. */
interface TrialWatch {
  started(generation: number, workers: number): void;
  /** One more of them is ready. */
  ready(ready: number, workers: number): void;
  unstaged(staged: Staged, reason: string): void;
  /** Why a worker that is staged is no longer healthy. */
  sicknessOf(worker: WorkerProcess): Promise<string | undefined>;
  /** What they had is not needed any longer. */
  ended(): void;
}

/** New workers that are started without a commit: for a rehearsal, or to be staged. There is one set of them at a time. */
export class Trial {
  readonly #settings: SupervisorSettings;
  readonly #env: Env;
  readonly #pool: WorkerPool;
  readonly #watch: TrialWatch;
  /** The workers that are being started. */
  #starting: Map<number, WorkerProcess> | undefined;
  #held: StagedWorkers | undefined;

  constructor(settings: SupervisorSettings, env: Env, pool: WorkerPool, watch: TrialWatch) {
    this.#settings = settings;
    this.#env = env;
    this.#pool = pool;
    this.#watch = watch;
  }

  /** Whether new workers are being started, or end. */
  get isBusy(): boolean {
    return this.#starting !== undefined;
  }

  get staged(): Staged | undefined {
    return this.#held?.staged;
  }

  /** Those that are started or staged. */
  get workers(): WorkerProcess[] {
    return [this.#starting, this.#held?.workers].flatMap((some) => [...(some?.values() ?? [])]);
  }

  async rehearse(generation: number, signal: AbortSignal | undefined): Promise<Rehearsal> {
    const { workers, result } = await this.#start("rehearse an upgrade", generation, signal);
    try {
      await Promise.all([...workers.values()].map(async (worker) => worker.endRehearsal()));
      return result;
    } finally {
      this.#starting = undefined;
      this.#watch.ended();
    }
  }

  async stage(generation: number, ttl: number, signal: AbortSignal | undefined): Promise<Staged> {
    const launch = identifyLaunch(workerCommand(this.#settings, 0));
    const { workers, result } = await this.#start("stage an upgrade", generation, signal);
    const answers = await Promise.all([...workers.values()].map(async (worker) => worker.stage(ttl)));
    if (answers.includes(false) || this.#starting !== workers || signal?.aborted) {
      this.end(workers);
      if (signal?.aborted) throw abortReason(signal);
      throw new HandoverError("ERR_UNRESPONSIVE", "cannot stage an upgrade: a new worker did not answer");
    }
    this.#starting = undefined;
    const staged = { pid: result.pid, generation, workers: workers.size, expires: Date.now() + ttl };
    const cancelExpiry = this.#env.clock.after(ttl, () => this.unstage(`its time of ${ttl} ms is over`));
    this.#held = { workers, staged, launch, cancelExpiry };
    for (const worker of workers.values()) {
      void worker.dead.then((how) => {
        if (this.#held?.workers === workers) this.unstage(reasonOf(how));
      });
    }
    return staged;
  }

  /** Ends the workers that are staged. Returns what was staged. */
  unstage(reason: string): Staged | undefined {
    const held = this.#held;
    if (held === undefined) return undefined;
    this.#held = undefined;
    held.cancelExpiry();
    this.end(held.workers);
    this.#watch.unstaged(held.staged, reason);
    return held.staged;
  }

  /** Ends the workers that are staged unless they are those that an upgrade would start now. */
  async check(): Promise<void> {
    const held = this.#held;
    if (held === undefined) return;
    const why = await this.#whyOutdated(held);
    if (why !== undefined && this.#held === held) this.unstage(why);
  }

  /** The workers that are staged. They are the caller's from now on. */
  take(): StagedWorkers | undefined {
    const held = this.#held;
    this.#held = undefined;
    held?.cancelExpiry();
    return held;
  }

  /** The service stops. */
  stop(): void {
    this.unstage("the service is stopping");
    this.end(this.#starting);
  }

  async #whyOutdated({ workers, launch }: StagedWorkers): Promise<string | undefined> {
    try {
      const change = changeOf(launch, identifyLaunch(workerCommand(this.#settings, 0)));
      if (change !== undefined) return change;
    } catch (error) {
      return reasonOf(error);
    }
    const { readyTimeout } = this.#settings;
    const answers = await Promise.all([...workers.values()].map(async (one) => one.stage(readyTimeout)));
    if (answers.includes(false)) return "a worker did not answer";
    const sick = await Promise.all([...workers.values()].map(async (one) => this.#watch.sicknessOf(one)));
    const why = sick.find((one) => one !== undefined);
    if (why !== undefined) return `a worker is not healthy: ${why}`;
    // Last: it may have changed while the workers were asked.
    return workers.size === this.#pool.records.length ? undefined : "the number of workers has changed";
  }

  /** Starts new workers up to their `ready()`. */
  async #start(
    doing: string,
    generation: number,
    signal: AbortSignal | undefined,
  ): Promise<{ workers: Map<number, WorkerProcess>; result: Rehearsal }> {
    const workers = new Map<number, WorkerProcess>();
    this.#starting = workers;
    const { clock, pid } = this.#env;
    const { readyTimeout } = this.#settings;
    const begin = clock.now();
    const failed = deferred<never>();
    const abort = (): void => failed.reject(abortReason(signal));
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    const cancel = clock.after(readyTimeout, () => {
      const message = `the new workers were not ready within ${readyTimeout} ms, and were killed`;
      failed.reject(new HandoverError("ERR_UPGRADE_TIMEOUT", message));
    });
    try {
      const starting = this.#pool.indexes.map(async (index) => {
        const worker = await this.#pool.spawn(index, generation);
        if (this.#starting === workers) workers.set(index, worker);
        else this.#pool.abandon(worker);
        return worker;
      });
      const all = await Promise.race([Promise.all(starting), failed.promise]);
      const spawned = clock.now();
      this.#watch.started(generation, all.length);
      await Promise.race([this.#allReady(all), failed.promise]);
      const timings = { spawn: spawned - begin, ready: clock.now() - spawned };
      return { workers, result: { pid, generation, workers: all.length, timings } };
    } catch (error) {
      const reason = toHandoverError(error, "ERR_INTERNAL", doing);
      this.end(workers, reason);
      throw reason;
    } finally {
      cancel();
      failed.promise.catch(() => {});
      signal?.removeEventListener("abort", abort);
    }
  }

  async #allReady(workers: readonly WorkerProcess[]): Promise<void> {
    let ready = 0;
    const each = workers.map(async (worker) => {
      await worker.whenReady;
      this.#watch.ready(++ready, workers.length);
    });
    await Promise.all(each);
  }

  /** Ends workers that are not used, for a reason. */
  end(workers: ReadonlyMap<number, WorkerProcess> | undefined, reason?: HandoverError): void {
    if (workers === undefined) return;
    if (this.#starting === workers) this.#starting = undefined;
    for (const worker of workers.values()) this.#pool.abandon(worker, reason);
    this.#watch.ended();
  }
}
