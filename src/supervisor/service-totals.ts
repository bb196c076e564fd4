import { noSummary, type Departure, type DrainSummary, type UpgradeRecord } from "../events.js";
import { add, endsOf, noTotals, observePhases, type Totals } from "../metrics/totals.js";

/** The counts of the service over all its workers, since the supervisor has started. */
export class ServiceTotals {
  readonly #totals = noTotals();
  #stopped = noSummary();

  get all(): Totals {
    return this.#totals;
  }

  /** How what the workers held has ended since {@link beginStop}. */
  get stopped(): DrainSummary {
    return this.#stopped;
  }

  /** Goes on with the counts of another supervisor. */
  restore(totals: Totals): void {
    Object.assign(this.#totals, totals);
  }

  beginStop(): void {
    this.#stopped = noSummary();
  }

  /** An upgrade is over. */
  count({ outcome, timings }: UpgradeRecord): void {
    if (outcome === "running" || outcome === "probation") return;
    this.#totals.upgrades[outcome]++;
    if (timings !== undefined) observePhases(this.#totals.durations, timings);
  }

  /** A worker has left. */
  add({ connections, summary }: Departure): void {
    const ends = endsOf(connections, summary);
    Object.assign(this.#totals, {
      connections: add(this.#totals.connections, ends.connections),
      units: add(this.#totals.units, ends.units),
    });
    this.#stopped = add(this.#stopped, summary);
  }
}
