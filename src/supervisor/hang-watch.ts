import { HandoverError } from "../errors.js";
import { MISSED_HEARTBEATS } from "../process/heartbeat.js";
import type { Clock } from "../util/clock.js";
import { report } from "./report.js";
import type { WorkerPool } from "./worker-pool.js";
import type { WorkerProcess } from "./worker-process.js";
import type { WorkerRecord } from "./worker-record.js";

/** The service, as the watch uses it. */
interface HangHost {
  readonly clock: Clock;
  /** ms; 0: no worker is replaced. */
  readonly hangTimeout: number;
  readonly pool: Pick<WorkerPool, "acceptor" | "indexes" | "isCurrent" | "retired"> & {
    readonly records: readonly Pick<WorkerRecord, "current" | "restarts" | "hasFailed">[];
  };
  /** A worker has stopped to be well, or is well again. */
  changed(): void;
  /** Starts a new worker beside this one, which answers its supervisor, and then replaces it. False: not now. */
  replace(worker: WorkerProcess, reason: string): boolean;
}

/** What is known of one process. */
interface Condition {
  /** ms of silence that do not count: the supervisor was paused meanwhile. */
  excused: number;
  tick: number;
  /** ms without a heartbeat that count. */
  silence: number;
  /** Why its service is not well, and since when. */
  sick?: { readonly why: string; readonly since: number };
}

/**
 * Finds the workers that hang: those without a heartbeat, and those whose health check fails. New connections go to the other
 * workers until it is well again. After the hang timeout it is replaced, one worker at a time.
 */
export class HangWatch {
  readonly #host: HangHost;
  readonly #conditions = new WeakMap<WorkerProcess, Condition>();
  /** The worker that was killed, and how often its index had been restarted by then. */
  #replacing: { readonly worker: WorkerProcess; readonly restarts: number } | undefined;

  constructor(host: HangHost) {
    this.#host = host;
  }

  /** Whether connections go to the worker of an index. Where no worker is well all of them get their share. */
  isServing(index: number): boolean {
    const { pool } = this.#host;
    const worker = pool.acceptor(index);
    return worker !== undefined && (this.isWell(worker) || !pool.indexes.some((one) => this.#hasWell(one)));
  }

  isWell(worker: WorkerProcess): boolean {
    const condition = this.#conditions.get(worker);
    return condition === undefined || (!isSilent(condition) && condition.sick === undefined);
  }

  /** Whether the worker has heartbeats. One without cannot answer anything. */
  isResponding(worker: WorkerProcess): boolean {
    const condition = this.#conditions.get(worker);
    return condition === undefined || !isSilent(condition);
  }

  /**
   * Takes the length of a worker's silence, in ms, several times a second. A silence that began before a pause of the
   * supervisor counts anew: both may have been stopped together.
   */
  onSilence(worker: WorkerProcess, silence: number): void {
    const now = this.#host.clock.now();
    const condition = this.#conditionOf(worker);
    const wasWell = this.isWell(worker);
    const excused = now - condition.tick > PAUSE ? silence : Math.min(condition.excused, silence);
    Object.assign(condition, { excused, tick: now, silence: silence - excused });
    if (this.isWell(worker) !== wasWell) this.#host.changed();
    this.#judge(worker, condition);
  }

  /** @param sick why the worker is not well; undefined: it is */
  setHealth(worker: WorkerProcess, sick: string | undefined): void {
    const condition = this.#conditionOf(worker);
    if ((sick === undefined) === (condition.sick === undefined)) return;
    const who = `worker ${worker.index} (pid ${worker.pid})`;
    if (sick === undefined) {
      delete condition.sick;
      report(`${who} is healthy again`);
    } else {
      condition.sick = { why: sick, since: this.#host.clock.now() };
      report(`${who} is not healthy: ${sick}; new connections go to other workers`);
    }
    this.#host.changed();
  }

  #judge(worker: WorkerProcess, { silence, sick }: Condition): void {
    const { clock, hangTimeout, pool } = this.#host;
    if (hangTimeout === 0 || worker.isInspected || worker.isDead) return;
    const isCurrent = pool.isCurrent(worker);
    if (silence >= hangTimeout && (isCurrent ? !this.#isReplacing() : pool.retired.includes(worker)))
      return this.#kill(worker, silence);
    if (sick === undefined || clock.now() - sick.since < hangTimeout) return;
    if (isCurrent && !this.#isReplacing() && this.#host.replace(worker, sick.why))
      // Where the new worker is not healthy either this one stays, and is judged again later.
      this.#conditionOf(worker).sick = { why: sick.why, since: clock.now() };
  }

  /** A process whose event loop does not turn has nothing that it could hand over. */
  #kill(worker: WorkerProcess, silence: number): void {
    if (this.#host.pool.isCurrent(worker))
      this.#replacing = { worker, restarts: this.#host.pool.records[worker.index]!.restarts };
    const message = `it did not respond for ${Math.round(silence)} ms, and was killed`;
    worker.fail(new HandoverError("ERR_UNRESPONSIVE", message));
  }

  /** Whether the worker that was killed last still has to be replaced: until then no other one is. */
  #isReplacing(): boolean {
    if (this.#replacing === undefined) return false;
    const { worker, restarts } = this.#replacing;
    const record = this.#host.pool.records[worker.index];
    const isOver =
      record === undefined ||
      record.hasFailed ||
      // The new one has died, too: others must not wait for it.
      record.restarts > restarts + 1 ||
      // That of an upgrade, which is no restart, takes its place as well.
      (record.current !== worker && record.current?.isAccepting === true);
    if (isOver) this.#replacing = undefined;
    return !isOver;
  }

  #hasWell(index: number): boolean {
    const worker = this.#host.pool.acceptor(index);
    return worker !== undefined && this.isWell(worker);
  }

  #conditionOf(worker: WorkerProcess): Condition {
    const known = this.#conditions.get(worker);
    if (known !== undefined) return known;
    const condition: Condition = { excused: 0, tick: this.#host.clock.now(), silence: 0 };
    this.#conditions.set(worker, condition);
    return condition;
  }
}

function isSilent({ silence }: Condition): boolean {
  return silence >= MISSED_HEARTBEATS;
}

/** ms between two looks after which the supervisor itself was paused. */
const PAUSE = 1_500;
