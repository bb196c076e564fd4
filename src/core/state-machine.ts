import { stateError, transition, type Effect, type Event, type State } from "../lifecycle.js";

/** What each effect does. A promise is not waited for; its rejection is an error of the effect. */
export type Effects = Readonly<Record<Effect, () => void | Promise<void>>>;

/** A part of a transition that may throw. */
export type Step = Effect | "onTransition";

interface StateMachineListener {
  /** Called before the effects of a transition. */
  onTransition(event: Event, before: State, after: State): void;
  /** An effect, or {@link onTransition}, has thrown. The other effects of the transition run. */
  onError(step: Step, error: unknown): void;
}

/** An event that waits for its turn, and the callbacks of a request. */
interface QueuedEvent {
  readonly event: Event;
  readonly accept: () => void;
  readonly refuse: (error: Error) => void;
}

/**
 * Owns the state of this process. An event runs to completion: an event that one of its effects dispatches waits until all
 * effects have run, so that no effect sees a state between two transitions. An effect that throws cannot stop the others:
 * a half commit would leave two processes that accept, or none.
 */
export class StateMachine {
  readonly #effects: Effects;
  readonly #listener: StateMachineListener;
  readonly #queue: QueuedEvent[] = [];
  #state: State = { name: "starting" };
  #isRunning = false;

  constructor(effects: Effects, listener: StateMachineListener) {
    this.#effects = effects;
    this.#listener = listener;
  }

  get state(): State {
    return this.#state;
  }

  /** Runs an event now, or after the event that is running. Never throws. */
  dispatch(event: Event): void {
    this.#enqueue({ event, accept: () => {}, refuse: () => {} });
  }

  /**
   * Dispatches an event that the table may refuse, and runs it in this turn unless another event is running.
   *
   * @returns undefined if the event has run
   * @throws {HandoverError} with the code of the table; rejects with it if the event has to wait
   */
  request(event: Event): Promise<void> | undefined {
    if (this.#isRunning) {
      return new Promise((accept, refuse) => this.#enqueue({ event, accept, refuse }));
    }
    let refusal: Error | undefined;
    this.#enqueue({ event, accept: () => {}, refuse: (error) => (refusal = error) });
    if (refusal !== undefined) throw refusal;
    return undefined;
  }

  #enqueue(queued: QueuedEvent): void {
    this.#queue.push(queued);
    if (this.#isRunning) return;
    this.#isRunning = true;
    for (let next; (next = this.#queue.shift()) !== undefined;) this.#run(next);
    this.#isRunning = false;
  }

  #run({ event, accept, refuse }: QueuedEvent): void {
    const before = this.#state;
    const step = transition(before, event);
    if (step.refused !== undefined) return refuse(stateError(step.refused, event));
    this.#state = step.state;
    this.#guard("onTransition", () => this.#listener.onTransition(event, before, step.state));
    for (const effect of step.effects) this.#guard(effect, this.#effects[effect]);
    return accept();
  }

  #guard(step: Step, run: () => void | Promise<void>): void {
    const fail = (error: unknown): void => this.#listener.onError(step, error);
    try {
      const running = run();
      if (running instanceof Promise) running.catch(fail);
    } catch (error) {
      fail(error);
    }
  }
}
