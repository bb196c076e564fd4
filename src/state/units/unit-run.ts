import { isThenable } from "../../util/timeout.js";
import type { UnitKind } from "./unit-definition.js";

/** One run of a unit, from `run` until its signal aborts. A rollback begins another run. */
export class UnitRun {
  /** Resolves with the result of `run`. */
  readonly started: Promise<unknown>;
  readonly #controller = new AbortController();
  #isStarted = false;
  #value: unknown;

  /** Calls `run` at once. */
  constructor({ definition }: UnitKind, id: string, state: unknown, fence: number) {
    this.started = this.#start(() => definition.run(id, state, { signal: this.#controller.signal, fence }));
    this.started.catch(() => {});
  }

  /** Whether `run` has returned. */
  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** The result of `run`; undefined before. */
  get value(): unknown {
    return this.#value;
  }

  get hasAborted(): boolean {
    return this.#controller.signal.aborted;
  }

  /** The unit no longer runs in this process. */
  abort(): void {
    this.#controller.abort(ENDED);
  }

  async #start(run: () => unknown): Promise<unknown> {
    const running = run();
    this.#value = isThenable(running) ? await running : running;
    this.#isStarted = true;
    return this.#value;
  }
}

/** The reason of every signal. An exception of its own for each of 100,000 units would take half a second. */
const ENDED = new DOMException("the unit no longer runs in this process", "AbortError");
