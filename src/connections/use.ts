import { constants } from "node:os";
import { native } from "../platform/native.js";

const { ENOSYS, ENOTSUP } = constants.errno;

/** How much had been read from a connection, and written to it, when this was made. */
export class Use {
  readonly #fd: number;
  readonly #ifUncounted: boolean;
  /** Whether the system does not count at all: a connection of a Unix socket, and every one on macOS. */
  readonly #isUncounted: boolean;
  readonly #written: number;
  readonly #read: number;

  /** @param ifUncounted the answer for a connection that the system does not count */
  constructor(fd: number, ifUncounted: boolean) {
    this.#fd = fd;
    this.#ifUncounted = ifUncounted;
    const result = native().connectionCounters(fd, counted);
    this.#isUncounted = result === -ENOTSUP || result === -ENOSYS;
    this.#written = result < 0 ? NaN : written();
    this.#read = result < 0 ? NaN : read();
  }

  /** Whether that is still so: false also if the system does not say. */
  get isUnchanged(): boolean {
    if (this.#isUncounted) return this.#ifUncounted;
    // NaN equals nothing.
    return (
      native().connectionCounters(this.#fd, counted) === 0 &&
      written() === this.#written &&
      read() === this.#read
    );
  }
}

/** Of the last call: its first use is in the same turn. */
const counted = new Float64Array(4);

function written(): number {
  return counted[0]! + counted[2]!;
}

function read(): number {
  return counted[1]! - counted[3]!;
}
