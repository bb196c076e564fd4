import { Drain, type Drained } from "../connections/drain.js";
import type { Tracker } from "../connections/tracker.js";
import type { HandoverError } from "../errors.js";
import type { Departure } from "../state/drain-context.js";
import type { Exchange } from "../exchange/exchange.js";
import type { State } from "../state/process-state.js";
import type { DrainReport } from "../state/units/definition.js";
import { within } from "../util/timeout.js";

/** What became of all that a process held. */
export interface Ended extends Drained {
  /** By their kind. */
  units: Record<string, DrainReport>;
}

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
  report: (ended: Ended) => Promise<void>;
  /** A role that could not be released. */
  failed: (error: HandoverError) => void;
}

/** The end of a process: its connections and its state move to the successor, or end here. */
export class Ending {
  /** Resolves when nothing is left. */
  readonly done: Promise<Ended>;
  readonly #drain: Drain;
  readonly #departure: Departure;

  constructor(tracker: Tracker, state: State, options: EndingOptions) {
    const { exchange, probation, timeout, begin } = options;
    this.#departure = state.depart(exchange, probation, timeout);
    begin();
    this.#drain = new Drain(tracker, timeout, exchange);
    this.done = this.#run(state, options);
  }

  /** ms until what is left is destroyed. */
  get remaining(): number {
    return this.#drain.remaining;
  }

  /** Connections that have moved so far. */
  get handedOver(): number {
    return this.#drain.handedOver;
  }

  /** The connections that are left stay; {@link done} stays pending. */
  cancel(): void {
    this.#drain.cancel();
  }

  /** State follows the connections that are idle now: what they bring until then is in it. */
  async #run(state: State, { report, failed }: EndingOptions): Promise<Ended> {
    const departure = this.#departure;
    const roles = state.roles.releaseAll();
    const leaving = state.drain(departure, within(SWEEP, this.#drain.swept));
    const drained = await this.#drain.done;
    const ended = { ...drained, units: await leaving };
    await Promise.race([report(ended), departure.over]);
    await state.idle(departure);
    for (const error of await roles) failed(error);
    departure.end();
    return ended;
  }
}

/** How long, in ms, state waits for the connections. */
const SWEEP = 1_000;
