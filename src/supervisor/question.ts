import type { Clock } from "../util/clock.js";
import { deferred, type Deferred } from "../util/deferred.js";

/** A question to a worker, which is put once at a time: all who ask meanwhile get the same answer. */
export class Question<T> {
  readonly #clock: Clock;
  readonly #dead: Promise<unknown>;
  readonly #timeout: number;
  readonly #put: () => void;
  /** The answer that is waited for. */
  #answer: Deferred<T | undefined> | undefined;

  /**
   * @param dead resolves when the worker is dead
   * @param timeout in ms
   * @param put sends the question
   */
  constructor(clock: Clock, dead: Promise<unknown>, timeout: number, put: () => void) {
    this.#clock = clock;
    this.#dead = dead;
    this.#timeout = timeout;
    this.#put = put;
  }

  /** Resolves with the answer; undefined if the worker dies, or does not answer in time. */
  async ask(): Promise<T | undefined> {
    return (this.#answer ??= this.#begin()).promise;
  }

  /** The worker has answered. An answer that is late is dropped. */
  answered(answer: T): void {
    this.#answer?.resolve(answer);
  }

  #begin(): Deferred<T | undefined> {
    const answer = deferred<T | undefined>();
    const giveUp = (): void => answer.resolve(undefined);
    const cancel = this.#clock.after(this.#timeout, giveUp);
    void this.#dead.then(giveUp);
    void answer.promise.then(() => {
      cancel();
      this.#answer = undefined;
    });
    this.#put();
    return answer;
  }
}
