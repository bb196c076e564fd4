import { HandoverError, reasonOf } from "../errors.js";
import type { Clock } from "../util/clock.js";
import { runHealthCommand } from "./health-command.js";
import { askForPath } from "./health-request.js";
import { isShortage } from "./shortage.js";
import type { SupervisorSettings } from "./settings.js";
import type { WorkerProcess } from "./worker-process.js";

/** The service, as its health checks use it. */
interface HealthHost {
  readonly clock: Clock;
  /** Whether a worker can answer at all: what it is asked would wait in vain. */
  isResponding(worker: WorkerProcess): boolean;
  /** Whether it is one of the workers that serve. */
  isServing(worker: WorkerProcess): boolean;
  /** @param sick why the worker is not healthy; undefined: it is */
  judged(worker: WorkerProcess, sick: string | undefined): void;
}

/** Asks each worker whether it is well: before it accepts, and again and again while it serves. */
export class HealthChecks {
  readonly #settings: SupervisorSettings;
  readonly #host: HealthHost;
  readonly #watched = new WeakSet<WorkerProcess>();

  constructor(settings: SupervisorSettings, host: HealthHost) {
    this.#settings = settings;
    this.#host = host;
  }

  /** Resolves when a worker that does not accept yet may. One that is not healthy is killed, and this stays pending. */
  async admit(worker: WorkerProcess): Promise<void> {
    if (this.#settings.health === undefined) return;
    for (let failures = 0; ;) {
      const { sick } = await this.#ask(worker);
      if (sick === undefined) return;
      if (++failures === FAILURES) {
        worker.fail(new HandoverError("ERR_UNHEALTHY", `it is not healthy: ${sick}`));
        return NEVER;
      }
      await this.#pause(RETRY_AFTER);
      if (worker.isDead) return NEVER;
    }
  }

  /** Why a worker that waits to accept is no longer healthy; undefined if it is, or could not be asked. */
  async sicknessOf(worker: WorkerProcess): Promise<string | undefined> {
    const { sick, isUnknown } = await this.#ask(worker);
    return isUnknown === true ? undefined : sick;
  }

  /** Watches a worker that accepts, until it is dead: one that has stopped to accept may do so again after a rollback. */
  watch(worker: WorkerProcess): void {
    if (this.#settings.health === undefined || this.#watched.has(worker)) return;
    this.#watched.add(worker);
    this.#watch(worker);
  }

  #watch(worker: WorkerProcess): void {
    let failures = 0;
    let cancel: (() => void) | undefined;
    const look = async (): Promise<void> => {
      if (!this.#host.isServing(worker)) failures = 0;
      else if (this.#host.isResponding(worker)) {
        const { sick, isUnknown } = await this.#ask(worker);
        if (isUnknown !== true) failures = sick === undefined ? 0 : failures + 1;
        const isJudged = isUnknown !== true && (failures === 0 || failures >= FAILURES);
        if (isJudged && this.#host.isServing(worker)) this.#host.judged(worker, sick);
      }
      if (!worker.isDead) next();
    };
    const next = (): void => void (cancel = this.#host.clock.after(INTERVAL, () => void look()));
    void worker.dead.then(() => cancel?.());
    next();
  }

  async #ask(worker: WorkerProcess): Promise<Health> {
    const { health } = this.#settings;
    const { clock } = this.#host;
    try {
      if (health === undefined) return {};
      if ("command" in health)
        return { sick: await runHealthCommand(this.#settings, health.command, worker, TIMEOUT) };
      const answers = await Promise.all(
        health.paths.map(async (path) => askForPath(worker, path, TIMEOUT, clock)),
      );
      return { sick: answers.find((answer) => answer !== undefined) };
    } catch (error) {
      return { sick: `it cannot be asked: ${reasonOf(error)}`, isUnknown: isShortage(error) };
    }
  }

  async #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#host.clock.after(ms, resolve));
  }
}

interface Health {
  /** Why it is not healthy. */
  readonly sick?: string | undefined;
  /** It was not asked: what is lacking is this process's. */
  readonly isUnknown?: boolean;
}

const NEVER = new Promise<never>(() => {});

/** Answers in a row after which a worker is not healthy. */
const FAILURES = 3;

/** ms from an answer to the next question, of a worker that serves. */
const INTERVAL = 5_000;

/** ms from an answer to the next question, of a worker that is to accept. */
const RETRY_AFTER = 500;

/** ms. */
const TIMEOUT = 5_000;
