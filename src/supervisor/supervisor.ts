import { EventEmitter } from "node:events";
import type { InventoryEntry } from "../channel/messages.js";
import type { Status } from "../control/protocol.js";
import type { ControlledProcess } from "../control/server.js";
import { HandoverError, reasonOf, toHandoverError } from "../errors.js";
import type {
  DrainSummary,
  Rehearsal,
  Staged,
  UpgradeRecord,
  UpgradeResult,
  UpgraderEvents,
} from "../events.js";
import { stateError, type Outcome } from "../lifecycle.js";
import type { Env } from "../process/env.js";
import { changeOf, identifyLaunch, type LaunchIdentity } from "../process/launch-identity.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { deferred } from "../util/deferred.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { RestartPolicy } from "./restart-policy.js";
import { nextFence, roleHolder } from "./role-holder.js";
import { ServiceListeners } from "./service-listeners.js";
import type { SupervisorSettings } from "./settings.js";
import { supervisorStatus } from "./supervisor-status.js";
import { workerCommand } from "./worker-command.js";
import { WorkerProcess, type PeerLink, type WorkerListener, type WorkerRequest } from "./worker-process.js";
import { WorkersUpgrade, type UpgradeEnd } from "./workers-upgrade.js";

/** The worker of one index, as the service knows it over the lives of its processes. */
export interface WorkerRecord {
  readonly policy: RestartPolicy;
  /** The process that serves, or starts outside of an upgrade. */
  current: WorkerProcess | undefined;
  /** How often it was started again. */
  restarts: number;
  /** Why its last process died. */
  lastExit: string | undefined;
  /** It has died too often, and is not started again. */
  hasFailed: boolean;
  cancelRestart: () => void;
}

/** New workers that are ready, and wait for an upgrade. */
interface StagedWorkers {
  readonly workers: ReadonlyMap<number, WorkerProcess>;
  readonly staged: Staged;
  readonly launch: LaunchIdentity;
  readonly cancelExpiry: () => void;
}

/**
 * The process that keeps its PID while its workers are replaced. It owns the listeners, starts each worker and starts it again
 * when it dies, and drives the upgrades. No connection passes through it.
 */
export class Supervisor implements ControlledProcess {
  readonly settings: SupervisorSettings;
  readonly listeners: ServiceListeners;
  /** The events of upgrades, for the control socket. */
  readonly events = new EventEmitter<UpgraderEvents>();
  readonly #env: Env;
  readonly #workers: WorkerRecord[];
  /** Workers that were replaced, and drain. */
  readonly #retired = new Set<WorkerProcess>();
  readonly #ready = deferred<void>();
  readonly #ended = deferred<number>();
  readonly #records: UpgradeRecord[] = [];
  #state: "starting" | "ready" | "stopping" | "ended" = "starting";
  #generation = 0;
  #upgrade: WorkersUpgrade | undefined;
  /** New workers that are being started for a rehearsal or to be staged. */
  #trial: Map<number, WorkerProcess> | undefined;
  #staged: StagedWorkers | undefined;
  /** The index of the worker that holds the roles. */
  #holder: number | undefined;
  #fence = 0;
  /** The keys of TLS sessions, which all workers share: a client comes back to any of them. */
  #ticketKeys: Record<string, string> = {};

  /** @param activated the sockets that systemd has passed */
  constructor(settings: SupervisorSettings, env: Env, activated: readonly InventoryItem[]) {
    this.settings = settings;
    this.#env = env;
    this.#workers = Array.from({ length: settings.workers }, () => this.#newRecord());
    this.listeners = new ServiceListeners(
      {
        isAccepting: (index) => this.#acceptor(index) !== undefined,
        lend: ({ member, to }, name, fd) => this.#acceptor(to)?.lend(name, member, fd),
        unlend: ({ member, to }, name) => this.#acceptor(to)?.unlend(name, member),
      },
      settings.sticky === "ip" ? "source" : "random",
      activated,
    );
  }

  get state(): Status["state"] {
    if (this.#state === "ready" && this.#upgrade !== undefined) return "upgrading";
    if (this.#state === "stopping") return "draining";
    return this.#state === "ended" ? "exited" : this.#state;
  }

  get generation(): number {
    return this.#generation;
  }

  /** By index. */
  get workers(): readonly Readonly<WorkerRecord>[] {
    return this.#workers;
  }

  get retired(): readonly WorkerProcess[] {
    return [...this.#retired];
  }

  get holder(): number | undefined {
    return this.#holder;
  }

  get records(): readonly UpgradeRecord[] {
    return this.#records;
  }

  get staged(): Staged | undefined {
    return this.#staged?.staged;
  }

  /** Resolves when every worker accepts, or has failed. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Resolves with the exit code when the service has stopped, or every worker has failed. */
  get ended(): Promise<number> {
    return this.#ended.promise;
  }

  /** Starts the workers. */
  start(): void {
    for (const index of this.#workers.keys()) this.#startWorker(index);
  }

  async upgrade(signal?: AbortSignal): Promise<UpgradeResult> {
    this.#assertIdle("upgrade");
    if (signal?.aborted) throw abortReason(signal);
    const staged = await this.#takeStaged();
    this.#assertIdle("upgrade");
    const indexes = [...this.#workers.keys()];
    const rolling = this.settings.rolling ?? indexes.length;
    return this.#replace(indexes, rolling, this.#generation + 1, staged, signal);
  }

  /** Replaces the worker of one index. */
  async restart(index: number, signal?: AbortSignal): Promise<UpgradeResult> {
    this.#assertIdle(`restart worker ${index}`);
    if (this.#workers[index] === undefined) {
      throw new HandoverError("ERR_OPTION", `there is no worker ${index}: the service has ${this.#workers.length}`);
    }
    return this.#replace([index], 1, this.#generation, undefined, signal);
  }

  async rehearse(signal?: AbortSignal): Promise<Rehearsal> {
    const { workers, result } = await this.#startTrial("rehearse an upgrade", signal);
    try {
      await Promise.all([...workers.values()].map(async (worker) => worker.endRehearsal()));
      return result;
    } finally {
      this.#trial = undefined;
    }
  }

  async stage(ttl = DEFAULT_TTL, signal?: AbortSignal): Promise<Staged> {
    if (this.#staged !== undefined) return this.#staged.staged;
    const launch = identifyLaunch(workerCommand(this.settings, 0));
    const { workers, result } = await this.#startTrial("stage an upgrade", signal);
    this.#trial = undefined;
    const answers = await Promise.all([...workers.values()].map(async (worker) => worker.stage(ttl)));
    if (answers.includes(false) || this.#state !== "ready") {
      this.#endTrial(workers);
      throw new HandoverError("ERR_UNRESPONSIVE", "cannot stage an upgrade: a new worker did not answer");
    }
    const staged = { pid: result.pid, generation: result.generation, expires: Date.now() + ttl };
    const cancelExpiry = this.#env.clock.after(ttl, () => this.#unstage(`its time of ${ttl} ms is over`));
    this.#staged = { workers, staged, launch, cancelExpiry };
    for (const worker of workers.values()) {
      void worker.dead.then((how) => {
        if (this.#staged?.workers === workers) this.#unstage(reasonOf(how));
      });
    }
    this.events.emit("staged", staged);
    return staged;
  }

  unstage(): Staged | undefined {
    return this.#unstage("it was unstaged");
  }

  async stopAndDrain(): Promise<{ outcome: Outcome } & DrainSummary> {
    this.stop();
    await this.ended;
    return { outcome: "stopped", moved: 0, stayed: {}, destroyed: 0, unsettled: 0, units: {} };
  }

  async status(): Promise<Status> {
    return supervisorStatus(this, this.#env);
  }

  /** Stops every worker. The service has ended when {@link ended} resolves. */
  stop(): void {
    if (this.#state === "stopping" || this.#state === "ended") return;
    this.#state = "stopping";
    this.#ready.resolve();
    this.#unstage("the service is stopping");
    this.#endTrial(this.#trial);
    this.#upgrade?.abort(stateError("ERR_STOPPED", "upgrade"));
    for (const record of this.#workers) record.cancelRestart();
    void this.#stopAll();
  }

  async #stopAll(): Promise<void> {
    // An upgrade that has begun to commit has two generations: both are stopped.
    const all = this.#living();
    for (const worker of all) worker.stop();
    const dead = Promise.all(all.map(async (worker) => worker.deadOrUnkillable));
    const { stopTimeout } = this.settings;
    if (stopTimeout !== undefined && (await withTimeout(stopTimeout, dead)) === TIMED_OUT) {
      const reason = new HandoverError("ERR_STOPPED", `it did not stop within ${stopTimeout} ms`);
      for (const worker of this.#living()) worker.fail(reason);
    }
    await dead;
    this.#end(0);
  }

  #end(code: number): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#ready.resolve();
    this.listeners.closeAll();
    this.#ended.resolve(code);
  }

  #living(): WorkerProcess[] {
    const serving = this.#workers.flatMap(({ current }) => current ?? []);
    const all = [...serving, ...(this.#upgrade?.news.values() ?? []), ...this.#retired];
    return [...new Set(all)].filter((worker) => !worker.isDead);
  }

  #assertIdle(doing: string): void {
    if (this.#state === "starting") throw stateError("ERR_NOT_READY", doing);
    if (this.#state !== "ready") throw stateError("ERR_STOPPED", doing);
    if (this.#upgrade !== undefined || this.#trial !== undefined)
      throw stateError("ERR_UPGRADE_IN_PROGRESS", doing);
  }

  /** Replaces the workers of these indexes, `rolling` at a time. */
  async #replace(
    indexes: readonly number[],
    rolling: number,
    generation: number,
    staged: StagedWorkers | undefined,
    signal: AbortSignal | undefined,
  ): Promise<UpgradeResult> {
    const serving = this.#serving(indexes);
    for (const index of indexes) {
      this.#workers[index]!.cancelRestart();
      // A worker that starts, or has not been told to accept, has nothing that could move.
      const { current } = this.#workers[index]!;
      if (current !== undefined && !serving.has(index)) this.#discard(current);
    }
    const batches = [];
    for (let n = 0; n < indexes.length; n += rolling) batches.push(indexes.slice(n, n + rolling));
    const plan = {
      olds: [...serving.keys()],
      news: indexes,
      batches,
      probation: this.settings.probation > 0,
      ...(staged === undefined ? {} : { staged: true }),
    };
    const record = this.#beginRecord(generation);
    const { clock } = this.#env;
    const { readyTimeout, probation } = this.settings;
    const upgrade = new WorkersUpgrade(
      {
        clock,
        readyTimeout,
        probation,
        start: async (index, peers) => this.#spawn(index, generation, peers),
        commit: (worker, roles) => worker.commit(this.#keysWith(worker), this.#nextFence(), roles),
        resume: (worker, reason, roles) => worker.resume(reason, roles, this.#nextFence()),
      },
      plan,
      serving,
      staged?.workers ?? new Map(),
      this.#holder,
    );
    this.#upgrade = upgrade;
    this.events.emit("upgrading", {
      pid: this.#env.pid,
      generation,
      ...(staged === undefined ? {} : { staged: true }),
    });
    const abort = (): void => upgrade.abort(abortReason(signal));
    signal?.addEventListener("abort", abort, { once: true });
    const settled = upgrade.ended.then((end) => {
      signal?.removeEventListener("abort", abort);
      return this.#onUpgradeEnd(upgrade, end, generation, record);
    });
    try {
      const timings = await upgrade.committed;
      const result = { pid: this.#env.pid, generation, timings, staged: staged !== undefined };
      Object.assign(record, { outcome: record.outcome === "running" ? "probation" : record.outcome, timings });
      this.events.emit("upgraded", result);
      this.events.emit("draining", { connections: sumOf([...serving.values()]), timeout: 0 });
      return { ...result, settled };
    } catch (error) {
      await settled;
      throw error;
    }
  }

  #onUpgradeEnd(
    upgrade: WorkersUpgrade,
    end: UpgradeEnd,
    generation: number,
    record: UpgradeRecord,
  ): "confirmed" | "rolledBack" {
    this.#upgrade = undefined;
    this.#holder = upgrade.holder;
    if (end.how === "done") {
      this.#generation = generation;
      record.outcome = "confirmed";
      for (const [index, worker] of upgrade.news) this.#install(index, worker);
      this.listeners.closeUnused();
    } else {
      const { error } = end;
      Object.assign(record, { outcome: end.how, code: error.code, reason: error.message });
      if (end.how === "rolledBack") this.events.emit("rollback", { pid: this.#env.pid, error });
      else this.events.emit("failed", { error });
    }
    this.listeners.steer();
    if (this.#state === "ready") {
      for (const index of this.#workers.keys()) {
        const { current, hasFailed } = this.#workers[index]!;
        if (current === undefined && !hasFailed) this.#startWorker(index);
      }
      this.#assignRoles();
    }
    return end.how === "done" ? "confirmed" : "rolledBack";
  }

  /** A new worker has taken its place. */
  #install(index: number, worker: WorkerProcess): void {
    const record = this.#workers[index]!;
    const { current } = record;
    if (current !== undefined && current !== worker && !current.isDead) this.#retire(current);
    record.current = worker;
    record.hasFailed = false;
    record.policy.forget();
    void worker.dead.then((how) => this.#onDeath(index, worker, how));
  }

  #retire(worker: WorkerProcess): void {
    this.#retired.add(worker);
    void worker.dead.then(() => this.#retired.delete(worker));
  }

  /** Ends a worker that does not accept. */
  #discard(worker: WorkerProcess): void {
    this.#workers[worker.index]!.current = undefined;
    this.#retire(worker);
    worker.fail(new HandoverError("ERR_ABORTED", "an upgrade replaces it before it was ready"));
  }

  /** The workers of these indexes that accept. */
  #serving(indexes: readonly number[]): Map<number, WorkerProcess> {
    const all = indexes.map((index) => [index, this.#workers[index]!.current] as const);
    return new Map(all.filter((one): one is [number, WorkerProcess] => one[1]?.isAccepting === true));
  }

  /** The worker of an index that accepts, also one on probation. */
  #acceptor(index: number): WorkerProcess | undefined {
    const both = [this.#upgrade?.news.get(index), this.#workers[index]?.current];
    return both.find((worker) => worker?.isAccepting === true);
  }

  /** Starts the worker of an index outside of an upgrade. */
  #startWorker(index: number): void {
    const record = this.#workers[index]!;
    record.cancelRestart();
    void this.#spawn(index, this.#generation, []).then(
      (worker) => {
        if (this.#state === "stopping" || this.#state === "ended") return this.#abandon(worker);
        record.current = worker;
        this.#watchStart(worker);
      },
      (error: unknown) => this.#onDeath(index, undefined, toHandoverError(error, "ERR_SPAWN", "start a worker")),
    );
  }

  #abandon(worker: WorkerProcess): void {
    this.#retire(worker);
    worker.fail(stateError("ERR_STOPPED", "start a worker"));
  }

  #watchStart(worker: WorkerProcess): void {
    const { readyTimeout } = this.settings;
    const cancel = this.#env.clock.after(readyTimeout, () => {
      const message = `worker ${worker.index} (pid ${worker.pid}) was not ready within ${readyTimeout} ms, and was killed`;
      if (worker.readySince === undefined) worker.fail(new HandoverError("ERR_UPGRADE_TIMEOUT", message));
    });
    void worker.dead.then((how) => {
      cancel();
      this.#onDeath(worker.index, worker, how);
    });
  }

  async #spawn(index: number, generation: number, peers: readonly PeerLink[]): Promise<WorkerProcess> {
    const { name, pidFile, controlSocket } = this.settings;
    const place = {
      index,
      count: this.#workers.length,
      name,
      generation,
      ...(pidFile === undefined ? {} : { pidFile }),
      ...(typeof controlSocket === "string" ? { controlSocket } : {}),
    };
    const messages = peers.map((peer) => ({ type: "peer" as const, side: "predecessor" as const, ...peer }));
    const legacy = { generation, items: this.listeners.itemsFor(index), place, peers: messages };
    return WorkerProcess.start(this.#env, workerCommand(this.settings, index), legacy, this.#fromWorker);
  }

  readonly #fromWorker: WorkerListener = {
    ready: (worker) => {
      if (this.#upgrade?.hasNew(worker) === true)
        return this.#upgrade.dispatch({ type: "workerReady", index: worker.index });
      if (this.#workers[worker.index]?.current !== worker || worker.isAccepting) return;
      this.#keepKeys(worker);
      const holdsRoles = this.#holder === undefined;
      if (holdsRoles) this.#holder = worker.index;
      worker.commit(this.#keysWith(worker), this.#nextFence(), holdsRoles);
    },
    acknowledged: (worker) => {
      this.listeners.setUsed(worker.index, worker.used);
      if (this.#upgrade?.hasNew(worker) === true)
        return this.#upgrade.dispatch({ type: "acknowledged", index: worker.index });
      worker.confirm();
      this.#onServing();
    },
    yielded: (worker, failure) => {
      const failed = failure !== undefined;
      this.#upgrade?.dispatch({ type: "yielded", index: worker.index, failed });
    },
    ceased: (worker, fence) => {
      this.#fence = Math.max(this.#fence, fence);
      this.#upgrade?.dispatch({ type: "ceased", index: worker.index });
    },
    resumed: (worker) => this.#upgrade?.dispatch({ type: "resumed", index: worker.index }),
    silent: (worker, silence) => this.#onSilence(worker, silence),
    request: (worker, request) => void this.#answer(worker, request),
    keep: (worker, entry: InventoryEntry, fd) => this.listeners.keep(worker.index, entry, fd),
    release: (worker, name) => {
      if (this.#workers[worker.index]?.current === worker) this.listeners.release(worker.index, name);
    },
  };

  #onServing(): void {
    this.listeners.steer();
    if (this.#state !== "starting") return;
    if (!this.#workers.every(({ current, hasFailed }) => hasFailed || current?.isAccepting === true)) return;
    this.#state = "ready";
    this.#ready.resolve();
    this.events.emit("ready", { generation: this.#generation });
  }

  #onSilence(worker: WorkerProcess, silence: number): void {
    if (this.#upgrade?.hasNew(worker) === true) return this.#upgrade.onSilence(worker, silence);
    const { hangTimeout } = this.settings;
    if (hangTimeout === 0 || worker.isInspected || silence < hangTimeout) return;
    if (this.#workers[worker.index]?.current !== worker) return;
    worker.fail(new HandoverError("ERR_UNRESPONSIVE", `it did not respond for ${Math.round(silence)} ms`));
  }

  #onDeath(index: number, worker: WorkerProcess | undefined, how: HandoverError): void {
    const record = this.#workers[index];
    if (record === undefined || record.current !== worker) return;
    record.current = undefined;
    record.lastExit = reasonOf(how);
    this.listeners.steer();
    if (this.#state === "stopping" || this.#state === "ended") return;
    if (this.#upgrade !== undefined) {
      // The new worker of its index is to serve; without one it is started at the end.
      this.#upgrade.dispatch({ type: "oldDied", index });
      return;
    }
    if (this.#holder === index) this.#assignRoles();
    const delay = record.policy.died(this.#env.clock.now(), worker?.readySince);
    const who = worker === undefined ? `worker ${index}` : `worker ${index} (pid ${worker.pid})`;
    if (delay === "failed") {
      record.hasFailed = true;
      report(`${who} has failed: ${record.lastExit}; it is not started again`);
      if (this.#workers.every(({ hasFailed }) => hasFailed)) return this.#onAllFailed();
      return this.#onServing();
    }
    const when = delay === 0 ? "now" : `in ${delay} ms`;
    report(`${who} has died: ${record.lastExit}; it is started again ${when}`);
    record.restarts++;
    record.cancelRestart = this.#env.clock.after(delay, () => this.#startWorker(index));
  }

  #onAllFailed(): void {
    report("every worker has failed: the service ends");
    this.#state = "stopping";
    void Promise.all(this.retired.map(async (one) => one.deadOrUnkillable)).then(() => this.#end(1));
  }

  /** A worker holds the roles, unless none serves. */
  #assignRoles(): void {
    const ready = [...this.#serving([...this.#workers.keys()]).keys()];
    const holder = roleHolder(this.#holder, ready);
    if (holder === this.#holder) return;
    this.#holder = holder;
    if (holder !== undefined) this.#workers[holder]!.current!.roles(true, this.#nextFence());
  }

  async #answer(worker: WorkerProcess, request: WorkerRequest): Promise<void> {
    if (request.type === "cancel") return this.#asked.get(worker)?.get(request.request)?.abort(
      new HandoverError("ERR_ABORTED", request.message),
    );
    const { request: number } = request;
    const type = request.type === "open" ? "opened" : "asked";
    try {
      if (request.type === "open") {
        const { fd, ...entry } = await this.listeners.open(worker.index, request);
        worker.answer({ type: "opened", request: number, entry }, fd);
      } else worker.answer({ type: "asked", request: number, result: await this.#perform(worker, request) });
    } catch (error) {
      const { code, message } = toHandoverError(error, "ERR_INTERNAL", "answer a worker");
      worker.answer({ type, request: number, code, message });
    }
  }

  /** Operations that workers have asked for, and can take back. */
  readonly #asked = new Map<WorkerProcess, Map<number, AbortController>>();

  async #perform(
    worker: WorkerProcess,
    { request, operation, ttl }: WorkerRequest & { type: "ask" },
  ): Promise<Record<string, unknown>> {
    const controller = new AbortController();
    const own = this.#asked.get(worker) ?? new Map<number, AbortController>();
    this.#asked.set(worker, own.set(request, controller));
    try {
      switch (operation) {
        case "upgrade": {
          const { settled: _, ...result } = await this.upgrade(controller.signal);
          return result;
        }
        case "rehearse":
          return { ...(await this.rehearse(controller.signal)) };
        case "stage":
          return { ...(await this.stage(ttl, controller.signal)) };
        case "unstage":
          return { ...this.unstage() };
        default:
          this.stop();
          return {};
      }
    } finally {
      own.delete(request);
      if (own.size === 0) this.#asked.delete(worker);
    }
  }

  #keepKeys(worker: WorkerProcess): void {
    this.#ticketKeys = { ...worker.ticketKeys, ...this.#ticketKeys };
  }

  #keysWith(worker: WorkerProcess): Record<string, string> {
    this.#keepKeys(worker);
    return this.#ticketKeys;
  }

  #nextFence(): number {
    this.#fence = nextFence([this.#fence], Date.now());
    return this.#fence;
  }

  /** Starts new workers up to their `ready()`. */
  async #startTrial(
    doing: string,
    signal: AbortSignal | undefined,
  ): Promise<{ workers: Map<number, WorkerProcess>; result: Rehearsal }> {
    this.#assertIdle(doing);
    const workers = new Map<number, WorkerProcess>();
    this.#trial = workers;
    const { clock } = this.#env;
    const start = clock.now();
    const generation = this.#generation + 1;
    const failed = deferred<never>();
    const abort = (): void => failed.reject(abortReason(signal));
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    const cancel = clock.after(this.settings.readyTimeout, () => {
      const message = `the new workers were not ready within ${this.settings.readyTimeout} ms, and were killed`;
      failed.reject(new HandoverError("ERR_UPGRADE_TIMEOUT", message));
    });
    let spawned = start;
    try {
      const starting = [...this.#workers.keys()].map(async (index) => {
        const worker = await this.#spawn(index, generation, []);
        workers.set(index, worker);
        if (this.#trial !== workers) this.#abandon(worker);
        void worker.dead.then(failed.reject);
        await worker.whenReady;
      });
      const spawning = Promise.all(starting);
      spawned = clock.now();
      await Promise.race([spawning, failed.promise]);
      const timings = { spawn: spawned - start, ready: clock.now() - spawned };
      return { workers, result: { pid: this.#env.pid, generation, timings } };
    } catch (error) {
      this.#endTrial(workers);
      throw toHandoverError(error, "ERR_INTERNAL", doing);
    } finally {
      cancel();
      signal?.removeEventListener("abort", abort);
    }
  }

  #endTrial(workers: ReadonlyMap<number, WorkerProcess> | undefined): void {
    if (workers === undefined) return;
    if (this.#trial === workers) this.#trial = undefined;
    for (const worker of workers.values()) this.#abandon(worker);
  }

  #unstage(reason: string): Staged | undefined {
    const held = this.#staged;
    if (held === undefined) return undefined;
    this.#staged = undefined;
    held.cancelExpiry();
    this.#endTrial(held.workers);
    this.events.emit("unstaged", { pid: held.staged.pid, generation: held.staged.generation, reason });
    return held.staged;
  }

  /** The workers that are staged, if they are those that an upgrade would start now. */
  async #takeStaged(): Promise<StagedWorkers | undefined> {
    const held = this.#staged;
    if (held === undefined) return undefined;
    const change =
      held.workers.size === this.#workers.length
        ? changeOf(held.launch, identifyLaunch(workerCommand(this.settings, 0)))
        : "the number of workers has changed";
    const answers = change === undefined ? [...held.workers.values()].map(async (one) => one.stage(DEFAULT_TTL)) : [];
    const why = change ?? ((await Promise.all(answers)).includes(false) ? "a worker did not answer" : undefined);
    if (why !== undefined) this.#unstage(why);
    if (this.#staged !== held) return undefined;
    this.#staged = undefined;
    held.cancelExpiry();
    return held;
  }

  #beginRecord(to: number): UpgradeRecord {
    const record: UpgradeRecord = { at: Date.now(), from: this.#generation, to, outcome: "running" };
    this.#records.push(record);
    if (this.#records.length > MAX_RECORDS) this.#records.shift();
    return record;
  }

  #newRecord(): WorkerRecord {
    const { backoff, restarts, restartWindow } = this.settings;
    return {
      policy: new RestartPolicy({ backoff, restarts, restartWindow }),
      current: undefined,
      restarts: 0,
      lastExit: undefined,
      hasFailed: false,
      cancelRestart: () => {},
    };
  }
}

function abortReason(signal: AbortSignal | undefined): HandoverError {
  const reason: unknown = signal?.reason;
  if (reason instanceof HandoverError) return reason;
  return new HandoverError("ERR_ABORTED", "the upgrade was aborted", { cause: reason });
}

function sumOf(workers: readonly WorkerProcess[]): number {
  return workers.reduce((sum, { connections }) => sum + connections, 0);
}

function report(text: string): void {
  process.stderr.write(`handover: ${text}\n`);
}

/** ms that staged workers wait for their upgrade. */
const DEFAULT_TTL = 60_000;

/** Upgrades that are remembered. */
const MAX_RECORDS = 10;
