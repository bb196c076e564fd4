import { deferred } from "../util/deferred.js";

/** Does some work again and again, one at a time, as long as it says that there is more. */
export class Repeater {
  readonly #work: () => Promise<boolean>;
  readonly #interval: number;
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #isAskedAgain = false;
  #isStopped = false;
  #waiting: (() => void)[] = [];

  /**
   * @param work resolves with whether it is to be done again after `interval`; a rejection counts as true
   * @param interval in ms
   */
  constructor(work: () => Promise<boolean>, interval: number) {
    this.#work = work;
    this.#interval = interval;
  }

  /** Does the work now, or once more when the work that runs is done. */
  now(): void {
    if (this.#isStopped) return;
    if (this.#isRunning) this.#isAskedAgain = true;
    else void this.#run();
  }

  /** Does the work now. Resolves when it was done once from the beginning, or has failed. */
  async once(): Promise<void> {
    const { promise, resolve } = deferred<void>();
    this.#waiting.push(resolve);
    this.now();
    await promise;
  }

  /** Does the work after the interval, if it is not to be done before. */
  later(): void {
    if (this.#isStopped || this.#isRunning) return;
    this.#timer ??= setTimeout(() => this.now(), this.#interval);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    for (const resolve of this.#waiting) resolve();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    let isWanted: boolean;
    do {
      this.#isAskedAgain = false;
      const waiting = this.#waiting;
      this.#waiting = [];
      isWanted = await this.#work().catch(() => {
        // What was asked for meanwhile waits, too: an engine that is away would be asked all the time.
        this.#isAskedAgain = false;
        return true;
      });
      for (const resolve of waiting) resolve();
    } while (this.#isAskedAgain && !this.#isStopped);
    this.#isRunning = false;
    if (isWanted) this.later();
  }
}
