import { ConnectionMover } from "../connections/mover.js";
import type { Tracker } from "../connections/tracker.js";
import type { ExchangeLink } from "../process/exchange-link.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";

/** Some idle connections of this worker move to another one, while both serve. */
export class Rebalance {
  /** Resolves with the number that has moved, when every offer is settled and the link is closed. */
  readonly over: Promise<number>;
  readonly #link: ExchangeLink;
  readonly #mover: ConnectionMover;

  /**
   * Begins at once.
   *
   * @param link to the other worker; it is this object's
   * @param most connections that move
   */
  constructor(tracker: Tracker, link: ExchangeLink, most: number) {
    this.#link = link;
    this.#mover = new ConnectionMover(tracker, link.exchange, most);
    this.over = this.#run();
  }

  /** Offers no further connection. */
  end(): void {
    this.#mover.stop();
  }

  async #run(): Promise<number> {
    const mover = this.#mover;
    // Connections that are busy for all of this time stay.
    await withTimeout(LONGEST, Promise.race([mover.settled, this.#link.gone]));
    mover.stop();
    // The other worker may hang, and have what was offered last.
    if ((await withTimeout(SETTLE_TIMEOUT, mover.settled)) === TIMED_OUT) this.#link.exchange.lose();
    this.#link.close();
    await mover.settled;
    return mover.counts.moved;
  }
}

/** ms */
const LONGEST = 500;
const SETTLE_TIMEOUT = 3_000;
