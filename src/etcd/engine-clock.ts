import { bootTime } from "../hosts/boot-time.js";

/**
 * The clock of etcd's hosts, as far as the date in their answers says it: that has whole seconds, so each answer narrows the time
 * down. No other host's clock is looked at.
 */
export class EngineClock {
  /** ms between the clock of this host's kernel and that of etcd, at least and at most. */
  #least = -Infinity;
  #most = Infinity;

  /**
   * @param date of an answer
   * @param sent and `received` on the clock of `bootTime()`
   */
  observe(date: string | undefined, sent: number, received: number): void {
    const second = Date.parse(date ?? "");
    if (Number.isNaN(second)) return;
    const least = second - received - STEP;
    const most = second + 1_000 - sent + STEP;
    this.#least = Math.max(this.#least, least);
    this.#most = Math.min(this.#most, most);
    if (this.#least <= this.#most) return;
    // A clock was set, or another host of etcd has answered.
    this.#least = least;
    this.#most = most;
  }

  /** ms since 1970: it is not earlier than that. */
  get earliest(): number {
    return Math.round(bootTime() + this.#least);
  }

  /** It is not later than that. */
  get latest(): number {
    return Math.round(bootTime() + this.#most);
  }
}

/** ms: the clock of the kernel is read in hundredths of a second. */
const STEP = 10;
