import type { DrainSummary } from "../events.js";
import { Drain } from "../connections/drain.js";
import type { Tracker } from "../connections/tracker.js";
import type { HandoverError } from "../errors.js";
import { DrainContext } from "../exchange/drain-context.js";
import type { Exchange } from "../exchange/exchange.js";
import type { ProcessState } from "../state/process-state.js";
import { withTimeout } from "../util/timeout.js";

interface EndingOptions {
  /** Leads to the successor, where there is one. */
  exchange: Exchange | undefined;
  /** Of the successor: false if this process serves again. */
  probation: Promise<boolean>;
  /** ms */
  timeout: number;
  /** Called once, before anything leaves. */
  begin: () => void;
  /** Called when nothing but this is left to hand on. */
  report: (ended: DrainSummary) => Promise<void>;
  /** A role that could not be released. */
  failed: (error: HandoverError) => void;
}

/** The end of a process: its connections and its state move to the successor, or end here. */
export class Ending {
  /** Resolves when nothing is left. */
  readonly done: Promise<DrainSummary>;
  readonly #drain: Drain;
  readonly #context: DrainContext;

  constructor(tracker: Tracker, state: ProcessState, options: EndingOptions) {
    const { exchange, probation, timeout, begin } = options;
    this.#context = new DrainContext(exchange, probation, timeout);
    state.beginDrain(this.#context);
    begin();
    this.#drain = new Drain(tracker, this.#context);
    this.done = this.#run(state, options);
  }

  /** ms until what is left is destroyed. */
  get remaining(): number {
    return Math.round(this.#context.remaining);
  }

  /** Connections that have moved so far. */
  get moved(): number {
    return this.#drain.moved;
  }

  /** The connections that are left stay; {@link done} stays pending. */
  cancel(): void {
    this.#drain.cancel();
  }

  /** State follows the connections that are idle now: what they bring until then is in it. */
  async #run(state: ProcessState, { report, failed }: EndingOptions): Promise<DrainSummary> {
    const context = this.#context;
    const roles = state.roles.releaseAll();
    const leaving = state.drain(context, withTimeout(SWEEP, this.#drain.swept));
    const drained = await this.#drain.done;
    const ended = { ...drained, units: await leaving };
    await Promise.race([report(ended), context.over]);
    await state.whenEmpty(context);
    for (const error of await roles) failed(error);
    context.end();
    return ended;
  }
}

/** How long, in ms, state waits for the connections. */
const SWEEP = 1_000;
