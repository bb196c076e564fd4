import type { WorkerPlace } from "../channel/messages.js";
import { reasonOf, toHandoverError, HandoverError } from "../errors.js";
import { stateError } from "../lifecycle.js";
import type { Env } from "../process/env.js";
import { awaitInput } from "../util/clock.js";
import { report } from "./report.js";
import type { ServiceListeners } from "./service-listeners.js";
import { ServiceRoles, type RolesState } from "./service-roles.js";
import type { SupervisorSettings } from "./settings.js";
import { NOT_GREETED } from "./commit-failure.js";
import { UnitDirectory, type UnitsState } from "./unit-directory.js";
import { workerCommand } from "./worker-command.js";
import { WorkerProcess, type PeerLink, type WorkerListener, type WorkerState } from "./worker-process.js";
import { WorkerRecord, type RecordState } from "./worker-record.js";

/** The workers, as another supervisor takes them over. */
export interface PoolState extends RolesState {
  /** By index. */
  records: RecordState[];
  retired: WorkerState[];
  units: UnitsState;
}

/** The service that the workers belong to. */
interface PoolHost {
  readonly listener: WorkerListener;
  readonly listeners: ServiceListeners;
  generation(): number;
  /** Whether the service stops: no worker is started. */
  isStopping(): boolean;
  /** The new worker of an index in the upgrade that is under way. */
  newWorker(index: number): WorkerProcess | undefined;
  /** Whether an upgrade or a scaling takes note of the death: the worker is not started again. */
  onDeath(index: number): boolean;
  /** A worker accepts, or has died. */
  changed(): void;
  /** The last worker has failed. */
  allFailed(): void;
}

/** The workers of the service: their processes, and their restarts. */
export class WorkerPool {
  /** Which worker has which unit. */
  readonly units = new UnitDirectory();
  readonly roles: ServiceRoles;
  readonly #settings: SupervisorSettings;
  readonly #env: Env;
  readonly #host: PoolHost;
  readonly #records: WorkerRecord[];
  /** Workers that were replaced, and drain. */
  readonly #retired = new Set<WorkerProcess>();
  /** Workers that are being started. */
  #spawning = 0;

  constructor(settings: SupervisorSettings, env: Env, host: PoolHost) {
    this.#settings = settings;
    this.#env = env;
    this.#host = host;
    this.roles = new ServiceRoles({
      clock: env.clock,
      isStopping: () => host.isStopping(),
      indexes: () => this.indexes,
      mayHold: (index) => this.#mayHold(index),
      isLeaving: (index) => this.#records[index]?.isLeaving === true,
    });
    this.#records = Array.from({ length: settings.workers }, () => this.#newRecord());
  }

  /** For {@link restore}. */
  get state(): PoolState {
    return {
      records: this.#records.map((record) => record.state),
      retired: [...this.#retired].filter((one) => !one.isDead).map((one) => one.state),
      ...this.roles.state,
      units: this.units.state,
    };
  }

  /** Goes on with the workers of the program that this process was before. */
  restore({ records, retired, units, ...roles }: PoolState): void {
    const adopt = (state: WorkerState): WorkerProcess => {
      const worker = WorkerProcess.adopt(this.#env, state, this.#host.listener);
      void worker.deadOrUnkillable.then(() => this.units.bury(worker));
      return worker;
    };
    this.#records.length = 0;
    for (const { current, ...same } of records) {
      const record = this.#newRecord();
      record.restore(same);
      this.#records.push(record);
      if (current === undefined) continue;
      record.current = adopt(current);
      this.#watch(
        record.current,
        current.readyAge === undefined ? this.#killIfLate(record.current) : () => {},
      );
    }
    for (const state of retired) this.#retire(adopt(state));
    this.roles.restore(roles);
    this.units.restore(units, (pid) => this.living().find((worker) => worker.pid === pid));
  }

  /** Whether no worker is being started, and every message is in the socket of its worker. */
  get isQuiet(): boolean {
    return this.#spawning === 0 && this.living().every((worker) => worker.isFlushed);
  }

  /** By index. */
  get records(): readonly Readonly<WorkerRecord>[] {
    return this.#records;
  }

  get indexes(): number[] {
    return [...this.#records.keys()];
  }

  get retired(): readonly WorkerProcess[] {
    return [...this.#retired];
  }

  /** Whether another upgrade would leave too many generations that drain. */
  get isCrowded(): boolean {
    return new Set([...this.#retired].map(({ generation }) => generation)).size >= MAX_DRAINING;
  }

  /**
   * Whether a worker accepts, and the others do, or have died: an upgrade must not wait for one that crashes again and again, as
   * it may be the cure.
   */
  get isSettled(): boolean {
    return (
      this.serving().size > 0 &&
      this.#records.every(
        ({ current, hasFailed, restarts }) => hasFailed || restarts > 0 || current?.isAccepting === true,
      )
    );
  }

  isCurrent(worker: WorkerProcess): boolean {
    return this.#records[worker.index]?.current === worker;
  }

  /** The worker of an index that accepts and stays, also one on probation. */
  acceptor(index: number): WorkerProcess | undefined {
    if (this.#records[index]?.isLeaving) return undefined;
    const both = [this.#host.newWorker(index), this.#records[index]?.current];
    return both.find((worker) => worker?.isAccepting === true);
  }

  /** The workers of these indexes that accept. */
  serving(indexes: readonly number[] = this.indexes): Map<number, WorkerProcess> {
    const all = indexes.map((index) => [index, this.#records[index]!.current] as const);
    return new Map(all.filter((one): one is [number, WorkerProcess] => one[1]?.isAccepting === true));
  }

  /** The workers that have not exited, without those of an upgrade that is under way. */
  living(): WorkerProcess[] {
    const serving = this.#records.flatMap(({ current }) => current ?? []);
    return [...serving, ...this.#retired].filter((worker) => !worker.isDead);
  }

  /** Starts the worker of an index outside of an upgrade. */
  start(index: number): void {
    const record = this.#records[index]!;
    const isWanted = record.beginStart();
    void this.spawn(index, this.#host.generation()).then(
      (worker) => {
        // An upgrade, which starts another one, has begun meanwhile; or the index was removed, or the service stops.
        if (this.#host.isStopping() || !isWanted() || this.#records[index] !== record)
          return this.abandon(worker);
        record.started(worker);
        this.#watch(worker, this.#killIfLate(worker));
      },
      (error: unknown) => {
        if (isWanted())
          this.#onDeath(index, undefined, toHandoverError(error, "ERR_SPAWN", "start a worker"));
      },
    );
  }

  /** Starts the workers that no process serves for, unless they have failed or wait for their restart. */
  startMissing(): void {
    for (const [index, record] of this.#records.entries()) if (record.isMissing) this.start(index);
  }

  /** Adds indexes up to `count`, without a worker. Returns them. */
  grow(count: number): number[] {
    const added: number[] = [];
    for (let index = this.#records.length; index < count; index++) {
      this.#records.push(this.#newRecord());
      added.push(index);
    }
    return added;
  }

  /** Whether the workers of these indexes are about to end. */
  setLeaving(indexes: readonly number[], isLeaving: boolean): void {
    for (const index of indexes) this.#records[index]!.isLeaving = isLeaving;
  }

  /**
   * Removes the indexes from `count` on. Their workers drain, or are ended if they do not accept yet.
   *
   * @param leaving the workers that move what they have
   */
  shrink(count: number, leaving: readonly WorkerProcess[]): void {
    const indexes = this.indexes.slice(count);
    this.cancelRestarts(indexes);
    const starting = indexes.filter((index) => this.#records[index]!.current?.isCommitted === false);
    this.discardStarting(starting, "its index was removed");
    for (const { current } of this.#records.splice(count)) {
      if (current === undefined || current.isDead) continue;
      this.#retire(current);
      // It has begun to accept too late to be asked.
      if (!leaving.includes(current)) current.stop();
    }
    this.roles.assign();
  }

  /** Starts the workers that have failed again, and forgets their deaths. Returns their indexes. */
  reviveFailed(indexes: readonly number[]): number[] {
    const failed = indexes.filter((index) => this.#records[index]!.hasFailed);
    for (const index of failed) {
      this.#records[index]!.forgetDeaths();
      this.start(index);
    }
    return failed;
  }

  /** Starts no worker again. */
  cancelRestarts(indexes: readonly number[] = this.indexes): void {
    if (this.#host.isStopping()) this.roles.stop();
    for (const index of indexes) this.#records[index]!.cancelStart();
  }

  /**
   * Starts a process of the program.
   *
   * @param predecessor the worker that it replaces
   * @throws {HandoverError} `ERR_SPAWN`, `ERR_OPTION` (of the environment's file)
   */
  async spawn(index: number, generation: number, predecessor?: PeerLink): Promise<WorkerProcess> {
    const peers =
      predecessor === undefined ? [] : [{ type: "peer", side: "predecessor", ...predecessor } as const];
    const items = this.#host.listeners.itemsFor(index);
    const legacy = { generation, items, place: this.#placeOf(index, generation), peers };
    const command = workerCommand(this.#settings, index);
    this.#spawning++;
    try {
      const worker = await WorkerProcess.start(this.#env, command, legacy, this.#host.listener);
      void worker.deadOrUnkillable.then(() => this.units.bury(worker));
      return worker;
    } finally {
      this.#spawning--;
    }
  }

  /** A worker that was started outside of an upgrade is ready: it accepts. */
  admit(worker: WorkerProcess): void {
    this.roles.commit(worker, this.roles.holder === undefined);
  }

  /** An old worker accepts again. */
  resume(worker: WorkerProcess, reason: HandoverError, roles: boolean): void {
    this.roles.resume(worker, reason, roles);
    this.#host.listeners.setUsed(worker.index, worker.used);
  }

  /** The new workers of an upgrade have taken their places. */
  install(news: ReadonlyMap<number, WorkerProcess>): void {
    for (const [index, worker] of news) {
      const record = this.#records[index]!;
      if (record.current !== undefined && !record.current.isDead) this.#retire(record.current);
      record.current = worker;
      this.#host.listeners.kept.install(worker, index);
      record.forgetDeaths();
      this.#watch(worker, () => {});
    }
  }

  /** The new workers of an upgrade serve although it has failed: no other worker does. */
  adopt(news: ReadonlyMap<number, WorkerProcess>): void {
    for (const [index, worker] of news) {
      if (worker.isDead) continue;
      this.#records[index]!.current = worker;
      this.#host.listeners.kept.install(worker, index);
      this.#watch(worker, this.#killIfLate(worker));
      if (worker.readySince !== undefined) this.admit(worker);
    }
  }

  /**
   * Ends the workers of these indexes that do not accept yet: they have nothing that could move to other workers.
   *
   * @param why for their ends
   */
  discardStarting(indexes: readonly number[], why: string): void {
    for (const index of indexes) {
      const record = this.#records[index]!;
      const { current } = record;
      if (current === undefined || current.isAccepting) continue;
      record.current = undefined;
      this.#retire(current);
      current.fail(new HandoverError("ERR_ABORTED", `${why} before it was ready`));
    }
  }

  /** Ends a worker that was started in vain. */
  abandon(worker: WorkerProcess, reason = stateError("ERR_STOPPED", "start a worker")): void {
    this.#retire(worker);
    worker.fail(reason);
  }

  /** The worker of an index that accepts, or was told to: it may have acquired the roles by then. */
  #mayHold(index: number): WorkerProcess | undefined {
    const both = [this.#host.newWorker(index), this.#records[index]?.current];
    return both.find((worker) => worker?.isCommitted === true && !worker.isDead);
  }

  #placeOf(index: number, generation: number): Omit<WorkerPlace, "peers"> {
    const { name, pidFile, controlSocket, probation, readyTimeout } = this.#settings;
    return {
      index,
      count: this.#records.length,
      name,
      generation,
      limits: { probation, upgradeTimeout: readyTimeout, maxDraining: MAX_DRAINING },
      ...(pidFile === undefined ? {} : { pidFile }),
      ...(typeof controlSocket === "string" ? { controlSocket } : {}),
    };
  }

  #killIfLate(worker: WorkerProcess): () => void {
    const { readyTimeout } = this.#settings;
    const readNow = (): void => worker.readNow();
    return awaitInput(this.#env.clock, readyTimeout, readNow, () => {
      const message = `it was not ready within ${readyTimeout} ms, and was killed${worker.hasGreeted ? "" : `: ${NOT_GREETED}`}`;
      if (worker.readySince === undefined) worker.fail(new HandoverError("ERR_UPGRADE_TIMEOUT", message));
    });
  }

  #watch(worker: WorkerProcess, cancel: () => void): void {
    void worker.dead.then((how) => {
      cancel();
      this.#onDeath(worker.index, worker, how);
    });
  }

  #newRecord(): WorkerRecord {
    return new WorkerRecord(this.#env.clock, this.#settings);
  }

  #retire(worker: WorkerProcess): void {
    this.#retired.add(worker);
    void worker.dead.then(() => this.#retired.delete(worker));
  }

  #onDeath(index: number, worker: WorkerProcess | undefined, how: HandoverError): void {
    const record = this.#records[index];
    if (record === undefined || record.current !== worker) return;
    // Its line names the worker and the process: it is no successor to those who read it.
    const lastExit = reasonOf(how)
      .replace(/^the successor \(pid \d+\) /, "it ")
      .replace(/^cannot start a successor/, "cannot start it");
    record.ended(lastExit);
    this.#host.listeners.steer();
    if (this.#host.isStopping() || this.#host.onDeath(index)) return;
    const delay = record.startAgain(worker?.readySince, () => this.start(index));
    const who = worker === undefined ? `worker ${index}` : `worker ${index} (pid ${worker.pid})`;
    if (delay === "failed") {
      report(`${who} has failed: ${lastExit}; it is not started again`);
      if (this.#records.every(({ hasFailed }) => hasFailed)) this.#host.allFailed();
      else this.#host.changed();
      return;
    }
    const when = delay === 0 ? "now" : `in ${delay} ms`;
    const what = worker === undefined ? "was not started" : "has died";
    report(`${who} ${what}: ${lastExit}; it is started again ${when}`);
    this.#host.changed();
  }
}

/** Generations that may drain at the same time: each of them holds the memory of all its workers. */
const MAX_DRAINING = 4;
