import type { EventEmitter } from "node:events";
import type { ControlEvents } from "../control/session.js";
import { HandoverError } from "../errors.js";
import type { UpgradeRecord, UpgradeResult } from "../events.js";
import { stateError } from "../lifecycle.js";
import type { Env } from "../process/env.js";
import { deferred } from "../util/deferred.js";
import { shorten } from "../util/shorten.js";
import { withTimeout } from "../util/timeout.js";
import { abortReason } from "./abort-reason.js";
import type { ServiceListeners } from "./service-listeners.js";
import type { ServiceTotals } from "./service-totals.js";
import type { SupervisorSettings } from "./settings.js";
import type { StagedWorkers } from "./trial.js";
import type { WorkerPool } from "./worker-pool.js";
import { connectionsOf, type WorkerProcess } from "./worker-process.js";
import { WorkersUpgrade, type UpgradeEnd } from "./workers-upgrade.js";

/** The service whose workers are upgraded. */
interface UpgradesHost {
  readonly env: Env;
  readonly pool: WorkerPool;
  readonly listeners: ServiceListeners;
  readonly events: EventEmitter<ControlEvents>;
  readonly totals: ServiceTotals;
  isStopping(): boolean;
}

/** The upgrades of the service, one at a time: each in its batches of workers, and with its record. */
export class Upgrades {
  readonly #settings: SupervisorSettings;
  readonly #host: UpgradesHost;
  readonly #records: UpgradeRecord[] = [];
  #generation = 0;
  /** Of the batch that is being replaced. */
  #current: WorkersUpgrade | undefined;
  /** Whether further batches follow. */
  #isRolling = false;
  /** By index: new workers that were staged, and wait for their batch. */
  #waiting = new Map<number, WorkerProcess>();
  #progress: Progress = { done: 0, of: 0 };
  readonly #stopped = deferred<void>();

  constructor(settings: SupervisorSettings, host: UpgradesHost) {
    this.#settings = settings;
    this.#host = host;
  }

  /** Of the workers that serve. */
  get generation(): number {
    return this.#generation;
  }

  get records(): readonly UpgradeRecord[] {
    return this.#records;
  }

  /** Whether an upgrade is under way, or is on probation. */
  get isBusy(): boolean {
    return this.#current !== undefined || this.#isRolling;
  }

  /** Whether the roles move, or have moved: the upgrade says which worker holds them. */
  get assignsRoles(): boolean {
    return this.#current !== undefined && this.#current.phase !== "starting";
  }

  /** The new workers of the upgrade that is under way, by index. */
  get news(): ReadonlyMap<number, WorkerProcess> {
    return this.#current?.news ?? NONE;
  }

  /** New workers that were staged, and wait for their batch. */
  get waiting(): Iterable<WorkerProcess> {
    return this.#waiting.values();
  }

  /** Resolves when the batch that is being replaced has ended. */
  get ended(): Promise<unknown> {
    return this.#current?.ended ?? Promise.resolve();
  }

  /** Goes on with the service of the program that this process was before. */
  restore(generation: number, records: readonly UpgradeRecord[]): void {
    this.#generation = generation;
    this.#records.push(...records);
  }

  /**
   * Replaces the workers of these indexes, `rolling` at a time: each batch is confirmed before the next one starts, so that there
   * are never more than `rolling` workers beside those that serve.
   */
  async replace(
    indexes: readonly number[],
    rolling: number,
    generation: number,
    staged: StagedWorkers | undefined,
    signal: AbortSignal | undefined,
  ): Promise<UpgradeResult> {
    const { pool, events } = this.#host;
    const { pid } = this.#host.env;
    const record = this.#beginRecord(generation);
    const workers = indexes.length;
    const isStaged = staged === undefined ? {} : { staged: true as const };
    const olds = [...pool.serving(indexes).values()];
    const batches = inBatches(indexes, rolling);
    const total = { spawn: 0, ready: 0, commit: 0 };
    this.#waiting = new Map(staged?.workers);
    try {
      for (const [n, batch] of batches.entries()) {
        if (n > 0) await this.#askToWait();
        const ready = this.#takeWaiting(batch);
        const progress = { done: n * rolling, of: workers };
        if (n > 0 && this.#host.isStopping()) {
          const error = afterEarlier(stateError("ERR_STOPPED", "upgrade"), progress);
          this.#end(record, "failed", error);
          throw error;
        }
        const isLast = n === batches.length - 1;
        this.#isRolling = !isLast;
        const batchOlds = [...pool.serving(batch).values()];
        const upgrade = this.#start(batch, generation, ready, signal, progress);
        // After the start: a listener of the event asks for the state, which must be that of the upgrade.
        if (n === 0) events.emit("upgrading", { pid, generation, workers, ...isStaged });
        const ended = upgrade.ended.then((end) =>
          this.#onEnd(
            upgrade,
            "error" in end ? { ...end, error: afterEarlier(end.error, progress) } : end,
            generation,
            record,
            isLast,
          ),
        );
        try {
          const timings = await upgrade.committed;
          for (const phase of ["spawn", "ready", "commit"] as const) total[phase] += timings[phase];
        } catch (error) {
          await ended;
          throw afterEarlier(error as HandoverError, progress);
        }
        if (!isLast) {
          if ((await ended) === "rolledBack") throw new HandoverError("ERR_ROLLED_BACK", record.reason!);
          // They need their memory until then.
          const gone = Promise.all(batchOlds.map(async (old) => old.deadOrUnkillable));
          await withTimeout(LEAVE_TIMEOUT, Promise.race([gone, this.#stopped.promise]));
          continue;
        }
        const result = { pid, generation, timings: total, staged: staged !== undefined, workers };
        Object.assign(record, {
          timings: total,
          ...(record.outcome === "running" ? { outcome: "probation" } : {}),
        });
        events.emit("upgraded", result);
        events.emit("draining", { connections: connectionsOf(olds), timeout: 0 });
        return { ...result, settled: ended };
      }
    } finally {
      this.#isRolling = false;
      this.#abandonWaiting(this.#waiting.keys());
    }
    throw new HandoverError("ERR_INTERNAL", "cannot upgrade: there is no worker");
  }

  /** The service stops. */
  stop(): void {
    this.#stopped.resolve();
    this.#abandonWaiting(this.#waiting.keys());
    this.#current?.abort(stateError("ERR_STOPPED", "upgrade"));
  }

  /** A worker is ready; this comes again if it takes more descriptors into use. False if it is none of the new ones. */
  onReady(worker: WorkerProcess): boolean {
    const upgrade = this.#current;
    if (upgrade?.hasNew(worker) !== true) return false;
    const { size } = upgrade.ready;
    upgrade.onReady(worker.index);
    const ready = upgrade.ready.size;
    const { done, of } = this.#progress;
    if (ready > size) this.#host.events.emit("workerReady", { ready: done + ready, workers: of });
    return true;
  }

  /** A worker accepts. False if it is none of the new ones. */
  onAcknowledged(worker: WorkerProcess): boolean {
    if (this.#current?.hasNew(worker) !== true) return false;
    this.#current.dispatch({ type: "acknowledged", index: worker.index });
    return true;
  }

  /** A worker has released its roles; or not, for a reason. */
  onYielded(worker: WorkerProcess, failure: string | undefined): void {
    if (this.#current?.hasOld(worker) === true) this.#current.onYielded(worker.index, failure);
  }

  onCeased(worker: WorkerProcess): void {
    if (this.#current?.hasOld(worker) === true)
      this.#current.dispatch({ type: "ceased", index: worker.index });
  }

  onResumed(worker: WorkerProcess): void {
    if (this.#current?.hasOld(worker) === true)
      this.#current.dispatch({ type: "resumed", index: worker.index });
  }

  /** @param silence ms since its last heartbeat */
  onSilence(worker: WorkerProcess, silence: number): void {
    this.#current?.onSilence(worker, silence);
  }

  /** A worker that serves has died. Returns whether a new worker takes its place. */
  onDeath(index: number): boolean {
    if (this.#current?.replaces(index) !== true) return false;
    this.#current.dispatch({ type: "oldDied", index });
    return true;
  }

  /** Workers of later batches go on waiting. Those that do not answer are replaced by others. */
  async #askToWait(): Promise<void> {
    const asked = [...this.#waiting].map(async ([index, worker]) =>
      (await worker.stage(this.#settings.readyTimeout)) ? [] : [index],
    );
    this.#abandonWaiting((await Promise.all(asked)).flat());
  }

  /** The workers of a batch that are ready: those of all its indexes, or none. */
  #takeWaiting(batch: readonly number[]): ReadonlyMap<number, WorkerProcess> {
    const ready = new Map([...this.#waiting].filter(([index]) => batch.includes(index)));
    if (ready.size < batch.length) {
      this.#abandonWaiting(ready.keys());
      return NONE;
    }
    for (const index of batch) this.#waiting.delete(index);
    return ready;
  }

  #abandonWaiting(indexes: Iterable<number>): void {
    const gone = [...indexes].flatMap((index) => this.#waiting.get(index) ?? []);
    for (const worker of gone) {
      this.#waiting.delete(worker.index);
      this.#host.pool.abandon(worker);
    }
    if (gone.length > 0) this.#host.listeners.closeUnused();
  }

  /** @param staged workers that are ready, of all indexes or of none */
  #start(
    indexes: readonly number[],
    generation: number,
    staged: ReadonlyMap<number, WorkerProcess>,
    signal: AbortSignal | undefined,
    progress: Progress,
  ): WorkersUpgrade {
    const { pool, listeners, env } = this.#host;
    const { readyTimeout, probation } = this.#settings;
    pool.cancelRestarts(indexes);
    pool.discardStarting(indexes, "an upgrade replaced it");
    const olds = pool.serving(indexes);
    const upgrade = new WorkersUpgrade(
      {
        clock: env.clock,
        readyTimeout,
        probation,
        start: async (index, predecessor) => pool.spawn(index, generation, predecessor),
        holder: () => pool.roles.holder,
        commit: (worker, roles) => pool.roles.commit(worker, roles),
        resume: (worker, reason, roles) => pool.resume(worker, reason, roles),
        changed: () => listeners.steer(),
      },
      {
        news: indexes,
        olds: [...olds.keys()],
        probation: probation > 0,
        ...(staged.size === 0 ? {} : { staged: true }),
      },
      olds,
      staged,
    );
    this.#current = upgrade;
    this.#progress = progress;
    const abort = (): void => upgrade.abort(abortReason(signal));
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    void upgrade.ended.then(() => signal?.removeEventListener("abort", abort));
    return upgrade;
  }

  /** @param isLast whether no further batch follows */
  #onEnd(
    upgrade: WorkersUpgrade,
    end: UpgradeEnd,
    generation: number,
    record: UpgradeRecord,
    isLast: boolean,
  ): "confirmed" | "rolledBack" {
    const { pool, listeners } = this.#host;
    const isDone = end.how === "done";
    if (isDone) {
      this.#generation = generation;
      pool.install(upgrade.news);
    } else if (end.how === "orphaned") this.#generation = generation;
    listeners.steer();
    this.#current = undefined;
    if (isDone && !isLast && !this.#host.isStopping()) return "confirmed";
    if (!this.#host.isStopping()) {
      pool.roles.assign();
      if (end.how === "orphaned") pool.adopt(upgrade.news);
      pool.startMissing();
    }
    listeners.closeUnused();
    const outcome = isDone ? "confirmed" : end.how === "rolledBack" ? "rolledBack" : "failed";
    this.#end(record, outcome, isDone ? undefined : end.error);
    return isDone ? "confirmed" : "rolledBack";
  }

  #end(
    record: UpgradeRecord,
    outcome: "confirmed" | "rolledBack" | "failed",
    error: HandoverError | undefined,
  ): void {
    const { events, totals, env } = this.#host;
    record.outcome = outcome;
    if (error !== undefined) {
      Object.assign(record, { code: error.code, reason: shorten(error.message) });
      if (outcome === "rolledBack") events.emit("rollback", { pid: env.pid, error });
      else events.emit("failed", { error });
    }
    totals.count(record);
    events.emit("recorded", record);
  }

  #beginRecord(to: number): UpgradeRecord {
    const record: UpgradeRecord = { at: Date.now(), from: this.#generation, to, outcome: "running" };
    this.#records.push(record);
    if (this.#records.length > MAX_RECORDS) this.#records.shift();
    return record;
  }
}

/** How many workers an upgrade has replaced in earlier batches, and how many it is to replace. */
interface Progress {
  readonly done: number;
  readonly of: number;
}

/** The error of an upgrade that fails in a later batch: the earlier ones stay. */
function afterEarlier(error: HandoverError, { done, of }: Progress): HandoverError {
  if (done === 0) return error;
  const message = `${error.message}; ${done} of ${of} workers have been replaced before, and stay`;
  return new HandoverError(error.code, message, { cause: error });
}

function inBatches(indexes: readonly number[], size: number): number[][] {
  const batches: number[][] = [];
  for (let n = 0; n < indexes.length; n += size) batches.push(indexes.slice(n, n + size));
  return batches;
}

const NONE: ReadonlyMap<number, WorkerProcess> = new Map();

/** ms in which the old workers of a batch have to leave before the next batch starts. */
const LEAVE_TIMEOUT = 30_000;

/** Upgrades that are remembered. */
const MAX_RECORDS = 10;
