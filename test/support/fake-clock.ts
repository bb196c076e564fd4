import { existsSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isMissing } from "./installed.js";
import { temporaryDirectory } from "./service.js";

/** Whether tests with a clock that jumps are skipped. */
export const isUntested = isMissing("faketime");

/** The clocks of the processes that have {@link env}, as libfaketime shows them: `Date`, and if it is told so those of timers. */
export class FakeClock {
  readonly env: NodeJS.ProcessEnv;
  readonly #file = join(temporaryDirectory(), "clock");

  /** @param isMonotonic whether the clock jumps, too, that never does without libfaketime: that of `performance.now()` and timers */
  constructor(isMonotonic: boolean) {
    const root = "/usr/lib";
    const places = readdirSync(root).map((one) => join(root, one, "faketime", "libfaketimeMT.so.1"));
    this.env = {
      LD_PRELOAD: places.find((place) => existsSync(place))!,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: "1",
      ...(isMonotonic ? {} : { FAKETIME_DONT_FAKE_MONOTONIC: "1" }),
    };
    this.set(0);
  }

  /** Lets it be so many hours ahead of the machine's from now on, or behind. */
  set(hours: number): void {
    // It may be read at any moment.
    writeFileSync(`${this.#file}.new`, `${hours < 0 ? "-" : "+"}${Math.abs(hours)}h\n`);
    renameSync(`${this.#file}.new`, this.#file);
  }
}
