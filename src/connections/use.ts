import { constants } from "node:os";
import type { Socket } from "node:net";
import { native } from "../platform/native.js";

const { ENOSYS, ENOTSUP } = constants.errno;

/** The bytes that have been read from a connection, and written to it. */
type Counts = Readonly<Pick<Socket, "bytesRead" | "bytesWritten">>;

/** How much had been read from a connection, and written to it, when this was made. */
export class Use {
  readonly #fd: number;
  readonly #ifUncounted: boolean;
  readonly #before: Counts | undefined;

  /**
   * @param ifUncounted the answer for a connection that the system does not count
   * @param before a socket that has read and written every byte of the connection, and now rests: it saves a question to the system,
   *   which for thousands takes a tenth of a move
   */
  constructor(fd: number, ifUncounted: boolean, before: Counts | undefined = count(fd)) {
    this.#fd = fd;
    this.#ifUncounted = ifUncounted;
    this.#before = before;
  }

  /** Whether that is still so: false also if the system does not say. */
  get isUnchanged(): boolean {
    const now = count(this.#fd);
    if (now === undefined) return this.#ifUncounted;
    // NaN equals nothing.
    const { bytesRead, bytesWritten } = this.#before ?? UNKNOWN;
    return now.bytesRead === bytesRead && now.bytesWritten === bytesWritten;
  }
}

/** Undefined where the system does not count at all: a connection of a Unix socket, and every one on macOS. */
function count(fd: number): Counts | undefined {
  const result = native().connectionCounters(fd, counted);
  if (result === -ENOTSUP || result === -ENOSYS) return undefined;
  if (result < 0) return UNKNOWN;
  const [acked, received, unsent, unread] = counted as unknown as [number, number, number, number];
  return { bytesRead: received - unread, bytesWritten: acked + unsent };
}

/** The system does not say. */
const UNKNOWN: Counts = { bytesRead: NaN, bytesWritten: NaN };

/** Of the last call: its use is in the same turn. */
const counted = new Float64Array(4);
