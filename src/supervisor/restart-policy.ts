/** Times in ms. */
interface RestartLimits {
  /** The delay before the second restart in a row. The first has none, and each further one doubles the delay. */
  readonly backoff: number;
  /** A worker that dies more often than this within `restartWindow`, or in a row, has failed. */
  readonly restarts: number;
  readonly restartWindow: number;
}

export interface RestartState {
  deaths: number[];
  inARow: number;
}

/** ms. No delay is longer. */
const LONGEST_BACKOFF = 30_000;

/** ms. A worker that was up for this long begins again without a delay. */
const STEADY = 10_000;

/** When the worker of one index is started again after a death. Time comes from the caller: ms of a monotonic clock. */
export class RestartPolicy {
  readonly #limits: RestartLimits;
  /** When the worker died, as far as `restartWindow` reaches back. */
  #deaths: number[] = [];
  /** Deaths in a row of a worker that was not up for long. */
  #inARow = 0;

  constructor(limits: RestartLimits) {
    this.#limits = limits;
  }

  /**
   * The worker has died.
   *
   * @param now when
   * @param readySince when it became ready; undefined if it never did
   * @returns ms until the restart; `"failed"` if it died too often
   */
  died(now: number, readySince: number | undefined): number | "failed" {
    const { backoff, restarts, restartWindow } = this.#limits;
    this.#deaths = [...this.#deaths.filter((death) => now - death < restartWindow), now];
    if (readySince !== undefined && now - readySince >= STEADY) this.#inARow = 0;
    const turn = this.#inARow++;
    // One that takes long to die, or waits long for its restart, would die for ever with few deaths in each window.
    if (this.#deaths.length > restarts || this.#inARow > restarts) return "failed";
    return turn === 0 ? 0 : Math.min(backoff * 2 ** (turn - 1), LONGEST_BACKOFF);
  }

  /** For {@link restore}; ages in ms. */
  stateAt(now: number): RestartState {
    return { deaths: this.#deaths.map((death) => now - death), inARow: this.#inARow };
  }

  restore({ deaths, inARow }: RestartState, now: number): void {
    this.#deaths = deaths.map((age) => now - age);
    this.#inARow = inARow;
  }

  /** A request or an upgrade starts the worker afresh: its earlier deaths say nothing of the new one. */
  forget(): void {
    this.#deaths = [];
    this.#inARow = 0;
  }
}
