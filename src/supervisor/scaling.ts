import type { ScalePhase } from "../control/protocol.js";
import { HandoverError } from "../errors.js";
import { stateError } from "../lifecycle.js";
import { awaitInput, type Clock } from "../util/clock.js";
import { deferred } from "../util/deferred.js";
import { untilEmpty } from "./accept-queues.js";
import type { ServiceListeners } from "./service-listeners.js";
import { linkWorkers } from "./worker-link.js";
import type { WorkerPool } from "./worker-pool.js";
import type { WorkerProcess } from "./worker-process.js";

/**
 * One change of the number of workers. New ones are started, and accept when all of them are ready. The highest indexes leave:
 * connections are steered away from them, they release their roles, stop accepting, and move what they have to the workers that
 * stay. A failure before they move leaves the service as it was.
 */
export class Scaling {
  readonly #pool: WorkerPool;
  readonly #listeners: ServiceListeners;
  readonly #clock: Clock;
  readonly #isWell: (worker: WorkerProcess) => boolean;
  readonly #onPhase: (phase: ScalePhase) => void;
  /** Indexes whose workers are not started again if they die: new ones, and those that leave. */
  readonly #mortal = new Set<number>();
  /** New workers that wait until all are ready. */
  readonly #held = new Set<WorkerProcess>();
  /** Indexes whose workers are waited for, and whether one has died. */
  readonly #awaited = new Map<number, "lives" | "dead">();
  /** The last answers of the workers that leave. */
  readonly #answers = new Map<WorkerProcess, Answer>();
  /** What the workers were asked for last. */
  #asked: Answer | undefined;
  /** Why a worker could not release its roles. */
  #failure: { readonly index: number; readonly message: string } | undefined;
  #look: () => void = () => {};
  #isStopped = false;

  constructor(
    pool: WorkerPool,
    listeners: ServiceListeners,
    clock: Clock,
    isWell: (worker: WorkerProcess) => boolean,
    onPhase: (phase: ScalePhase) => void,
  ) {
    this.#pool = pool;
    this.#listeners = listeners;
    this.#clock = clock;
    this.#isWell = isWell;
    this.#onPhase = onPhase;
  }

  /**
   * Resolves when the workers of all indexes below `count` accept, and the others have begun to move what they have.
   *
   * @throws {HandoverError} `ERR_CEASE_TIMEOUT`, `ERR_CHILD_EXITED`, `ERR_NOT_READY`, `ERR_ROLE`, `ERR_STOPPED`
   */
  async run(count: number): Promise<void> {
    const before = this.#pool.records.length;
    const revived = this.#pool.reviveFailed(this.#pool.indexes.slice(0, count));
    if (count < before) await this.#shrink(count);
    else await this.#grow(before, count, revived);
  }

  /** Gives up: the service stops. */
  stop(): void {
    this.#isStopped = true;
    this.#look();
  }

  /** Whether a worker that is ready waits for others. */
  holds(worker: WorkerProcess): boolean {
    if (!this.#mortal.has(worker.index)) return false;
    this.#held.add(worker);
    this.#look();
    return true;
  }

  /** A worker has answered; with a reason if it could not release its roles. */
  answered(worker: WorkerProcess, answer: Answer, failure?: string): void {
    if (answer !== this.#asked) return;
    this.#answers.set(worker, answer);
    if (failure !== undefined) this.#failure ??= { index: worker.index, message: failure };
    this.#look();
  }

  /** A worker has died. Returns whether it is not to be started again. */
  died(index: number): boolean {
    if (this.#awaited.has(index)) this.#awaited.set(index, "dead");
    this.#look();
    return this.#mortal.has(index);
  }

  /** A worker accepts. */
  changed(): void {
    this.#look();
  }

  async #grow(before: number, count: number, revived: readonly number[]): Promise<void> {
    const added = this.#pool.grow(count);
    for (const index of added) this.#mortal.add(index);
    for (const index of [...added, ...revived]) this.#awaited.set(index, "lives");
    for (const index of added) this.#pool.start(index);
    try {
      await this.#until(() => this.#firstDead !== undefined || this.#held.size === added.length);
      this.#assertAlive();
    } catch (error) {
      if (!this.#isStopped) await this.#remove(before);
      throw error;
    }
    // From now on they are as all others: one that dies is started again.
    this.#mortal.clear();
    const joining = [...this.#held];
    for (const worker of joining) this.#pool.admit(worker);
    const all = [...this.#awaited.keys()];
    const isServing = (index: number): boolean => this.#pool.acceptor(index) !== undefined;
    await this.#until(() => this.#firstDead !== undefined || all.every(isServing));
    for (const { index, pid, isAccepting } of joining)
      if (isAccepting) this.#onPhase({ phase: "joined", index, pid });
    this.#assertAlive();
  }

  async #shrink(count: number): Promise<void> {
    const indexes = this.#pool.indexes.slice(count);
    for (const index of indexes) this.#mortal.add(index);
    this.#setLeaving(indexes, true);
    const leaving = [...this.#pool.serving(indexes).values()];
    try {
      const pairs = this.#pair(leaving, count);
      await this.#ask(leaving, "yielded", YIELD_TIMEOUT, (one) => one.yield(true));
      await this.#ask(leaving, "ceased", CEASE_TIMEOUT, (one) => one.cease(pairs.get(one)!.peer));
      for (const [worker, { index, isDead }] of pairs)
        if (isDead && !worker.isDead)
          throw scaleError("ERR_CHILD_EXITED", `worker ${index}, which stays, has died`);
    } catch (error) {
      if (!this.#isStopped) await this.#resume(indexes, leaving, error as HandoverError);
      throw error;
    }
    for (const worker of leaving.filter(({ isDead }) => !isDead)) {
      worker.retire();
      // It cannot be rolled back any longer.
      worker.confirm();
      this.#onPhase({ phase: "leaving", index: worker.index, pid: worker.pid });
    }
    await this.#remove(count, leaving);
  }

  /** Removes the indexes from `count` on, and closes each of their sockets when no connection waits there. */
  async #remove(count: number, leaving: readonly WorkerProcess[] = []): Promise<void> {
    const indexes = this.#pool.indexes.slice(count);
    this.#pool.shrink(count, leaving);
    this.#listeners.steer();
    for (const index of indexes.toReversed()) {
      await untilEmpty(this.#listeners.queuesOf(index), this.#clock, () => this.#isStopped);
      if (this.#isStopped) throw stateError("ERR_STOPPED", "scale");
      this.#listeners.removeIndex(index);
    }
  }

  /** Gives each worker that leaves an exchange link to one that stays. */
  #pair(leaving: readonly WorkerProcess[], count: number): Map<WorkerProcess, WorkerProcess> {
    const staying = [...this.#pool.serving(this.#pool.indexes.slice(0, count)).values()];
    const takers = staying.filter((one) => this.#isWell(one));
    if (takers.length === 0) throw scaleError("ERR_NOT_READY", "no worker that stays accepts");
    return new Map(
      leaving.map((worker) => {
        const own = takers.find(({ index }) => index === worker.index % count);
        const taker = own ?? takers[worker.index % takers.length]!;
        const peer = { ...taker.peer, index: taker.index };
        linkWorkers(worker, taker, (fd) => worker.connect("successor", peer, fd));
        return [worker, taker];
      }),
    );
  }

  /** Asks the workers that live, and waits for their answers. */
  async #ask(
    workers: readonly WorkerProcess[],
    answer: Answer,
    timeout: number,
    ask: (worker: WorkerProcess) => void,
  ): Promise<void> {
    this.#asked = answer;
    for (const worker of workers) if (!worker.isDead) ask(worker);
    const lacking = (): WorkerProcess[] =>
      workers.filter((one) => !one.isDead && this.#answers.get(one) !== answer);
    const read = (): void => workers.forEach((one) => one.readNow());
    const isAnswered = await this.#until(
      () => this.#failure !== undefined || lacking().length === 0,
      timeout,
      read,
    );
    if (this.#failure !== undefined) {
      const { index, message } = this.#failure;
      throw scaleError("ERR_ROLE", `worker ${index} did not release its roles: ${message}`);
    }
    if (isAnswered) return;
    const names = lacking().map(({ index }) => index);
    const [code, what] = LATE[answer];
    throw scaleError(code, `worker ${names.join(", ")} ${what}`);
  }

  /** The workers that were to leave accept again. */
  async #resume(
    indexes: readonly number[],
    leaving: readonly WorkerProcess[],
    reason: HandoverError,
  ): Promise<void> {
    this.#failure = undefined;
    const { holder } = this.#pool.roles;
    const resume = (worker: WorkerProcess): void =>
      this.#pool.resume(worker, reason, worker.index === holder);
    // One that hangs is found by its silence.
    await this.#ask(leaving, "resumed", RESUME_TIMEOUT, resume).catch(() => {});
    this.#mortal.clear();
    this.#setLeaving(indexes, false);
    for (const worker of this.#held) if (!worker.isDead) this.#pool.admit(worker);
    this.#pool.roles.assign();
    if (!this.#isStopped) this.#pool.startMissing();
  }

  #setLeaving(indexes: readonly number[], isLeaving: boolean): void {
    this.#pool.setLeaving(indexes, isLeaving);
    this.#listeners.steer();
  }

  get #firstDead(): number | undefined {
    return [...this.#awaited].find(([, state]) => state === "dead")?.[0];
  }

  #assertAlive(): void {
    const index = this.#firstDead;
    if (index === undefined) return;
    const why = this.#pool.records[index]?.lastExit ?? "it has died";
    throw scaleError("ERR_CHILD_EXITED", `worker ${index} has died: ${why}`);
  }

  /**
   * Resolves when `isOver` holds, which is asked at each event; false if it does not within `timeout` ms.
   *
   * @param read reads the answers that have arrived
   * @throws {HandoverError} `ERR_STOPPED`
   */
  async #until(isOver: () => boolean, timeout?: number, read = (): void => {}): Promise<boolean> {
    const done = deferred<boolean>();
    this.#look = () => {
      if (this.#isStopped || isOver()) done.resolve(true);
    };
    const onLate = (): void => done.resolve(false);
    const cancel = timeout === undefined ? () => {} : awaitInput(this.#clock, timeout, read, onLate);
    this.#look();
    const isInTime = await done.promise;
    cancel();
    this.#look = () => {};
    if (this.#isStopped) throw stateError("ERR_STOPPED", "scale");
    return isInTime;
  }
}

type Answer = "yielded" | "ceased" | "resumed";

function scaleError(
  code: "ERR_CEASE_TIMEOUT" | "ERR_CHILD_EXITED" | "ERR_NOT_READY" | "ERR_ROLE",
  why: string,
) {
  return new HandoverError(code, `cannot scale: ${why}`);
}

const LATE = {
  yielded: ["ERR_ROLE", "did not release the roles in time"],
  ceased: ["ERR_CEASE_TIMEOUT", "did not stop accepting in time"],
  resumed: ["ERR_CEASE_TIMEOUT", "did not accept again in time"],
} as const;

/** ms, as in an upgrade */
const YIELD_TIMEOUT = 30_000;
const CEASE_TIMEOUT = 1_000;
const RESUME_TIMEOUT = 5_000;
