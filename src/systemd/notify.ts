import { constants } from "node:os";
import { reasonOf } from "../errors.js";
import { check, native, POLL } from "../platform/native.js";

/** Assignments of sd_notify(3), of which one datagram is made: systemd handles it as a whole, or not at all. */
export type Message = Record<string, string | number>;

/** The way to systemd's notification socket. Outside systemd there is none, and nothing is sent. */
export class Notifier {
  readonly #path: string | undefined;
  #hasWarned = false;

  /** @param socket as in `NOTIFY_SOCKET`: a path, or a name in the abstract namespace after an `@` */
  constructor(socket: string | undefined) {
    this.#path = socket !== undefined && /^[/@]./.test(socket) ? socket.replace(/^@/, "\0") : undefined;
  }

  /** Whether anybody listens. */
  get isConnected(): boolean {
    return this.#path !== undefined;
  }

  /**
   * A service that cannot tell systemd anything still serves: what goes wrong is a warning, given once.
   *
   * @param patience how long, in ms, this may block while systemd's queue is full
   */
  send(message: Message, fds: readonly number[] = [], patience = PATIENCE): void {
    if (this.#path === undefined) return;
    try {
      send(this.#path, encode(message), fds, patience);
    } catch (error) {
      if (!this.#hasWarned) process.emitWarning(reasonOf(error), { code: "HANDOVER_SYSTEMD" });
      this.#hasWarned = true;
    }
  }
}

/** ms; systemd reads hundreds of messages in it, even while it reloads its units. */
const PATIENCE = 1_000;

/** Bytes; systemd 252 ignores what is longer than a page. */
const LONGEST_VALUE = 1_000;

/** A line break would begin another assignment. */
function encode(message: Message): Uint8Array {
  const lines = Object.entries(message).map(([name, value]) => {
    const text = String(value).replace(/\s+/g, " ").slice(0, LONGEST_VALUE);
    return `${name}=${text}`;
  });
  return Buffer.from(lines.join("\n"));
}

function send(path: string, data: Uint8Array, fds: readonly number[], patience: number): void {
  const on = `systemd at ${path.replace("\0", "@")}`;
  const fd = check(native().connectUnix(path), "connect to", on);
  try {
    let sent = native().send(fd, data, fds);
    if (sent === -constants.errno.EAGAIN && native().poll(fd, POLL.writable, patience) > 0) {
      sent = native().send(fd, data, fds);
    }
    check(sent, "notify", on);
  } finally {
    native().close(fd);
  }
}
