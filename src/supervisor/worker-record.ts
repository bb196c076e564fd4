import type { Clock } from "../util/clock.js";
import { RestartPolicy, type RestartState } from "./restart-policy.js";
import type { SupervisorSettings } from "./settings.js";
import type { WorkerProcess, WorkerState } from "./worker-process.js";

/** The worker of one index, as another supervisor takes it over. */
export interface RecordState {
  policy: RestartState;
  current?: WorkerState;
  restarts: number;
  lastExit: string | undefined;
  hasFailed: boolean;
}

/** The worker of one index, as the service knows it over the lives of its processes: the one that serves, and its restarts. */
export class WorkerRecord {
  /** The process that serves, or starts outside of an upgrade. */
  current: WorkerProcess | undefined;
  /** It is about to end without a next one: it gets no connections and no roles. */
  isLeaving = false;
  readonly #clock: Clock;
  readonly #policy: RestartPolicy;
  #restarts = 0;
  #lastExit: string | undefined;
  #hasFailed = false;
  /** Whether a start outside of an upgrade is under way, or waits for its time. */
  #isRestarting = false;
  #cancelTimer = (): void => {};
  /** Grows when a start that is under way is no longer wanted. */
  #attempt = 0;

  constructor(clock: Clock, { backoff, restarts, restartWindow }: SupervisorSettings) {
    this.#clock = clock;
    this.#policy = new RestartPolicy({ backoff, restarts, restartWindow });
  }

  /** How often it was started again. */
  get restarts(): number {
    return this.#restarts;
  }

  /** Why its last process died. */
  get lastExit(): string | undefined {
    return this.#lastExit;
  }

  /** It has died too often, and is not started again. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Whether it has no process, and none is about to be started. */
  get isMissing(): boolean {
    return this.current === undefined && !this.#hasFailed && !this.#isRestarting;
  }

  /** For {@link restore}. */
  get state(): RecordState {
    const { current } = this;
    return {
      policy: this.#policy.stateAt(this.#clock.now()),
      ...(current === undefined || current.isDead ? {} : { current: current.state }),
      restarts: this.#restarts,
      lastExit: this.#lastExit,
      hasFailed: this.#hasFailed,
    };
  }

  /** Takes over what the supervisor knew of a worker before its own upgrade. The process of the worker is not part of it. */
  restore({ policy, restarts, lastExit, hasFailed }: Omit<RecordState, "current">): void {
    this.#policy.restore(policy, this.#clock.now());
    this.#restarts = restarts;
    this.#lastExit = lastExit;
    this.#hasFailed = hasFailed;
  }

  /** A process is being started. Returns a function that says whether it is still wanted. */
  beginStart(): () => boolean {
    this.#cancelTimer();
    this.#isRestarting = true;
    const attempt = ++this.#attempt;
    return () => this.#attempt === attempt;
  }

  /** The process that was wanted has been started. */
  started(worker: WorkerProcess): void {
    this.current = worker;
    this.#isRestarting = false;
  }

  /** A process that is being started, or was to be started later, is not wanted any longer. */
  cancelStart(): void {
    this.#cancelTimer();
    this.#isRestarting = false;
    this.#attempt++;
  }

  /** Its process has died, or could not be started. */
  ended(lastExit: string): void {
    this.current = undefined;
    this.#isRestarting = false;
    this.#lastExit = lastExit;
  }

  /**
   * Calls `start` when it is time to start the next process.
   *
   * @param readySince when the one that has died became ready, in ms of the clock; undefined if it never did
   * @returns ms until then; `"failed"` if it has died too often
   */
  startAgain(readySince: number | undefined, start: () => void): number | "failed" {
    const delay = this.#policy.died(this.#clock.now(), readySince);
    if (delay === "failed") {
      this.#hasFailed = true;
      return delay;
    }
    this.#restarts++;
    this.#isRestarting = true;
    this.#cancelTimer = this.#clock.after(delay, start);
    return delay;
  }

  /** Its earlier deaths say nothing of the process that takes over. */
  forgetDeaths(): void {
    this.#hasFailed = false;
    this.#policy.forget();
  }
}
