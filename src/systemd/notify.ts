import { reasonOf } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import { check, native, POLL } from "../platform/native.js";

/** Assignments of sd_notify(3). They are sent as one datagram, which systemd handles as a whole or not at all. */
export type Message = Record<string, string | number>;

/** Sends messages to systemd's notification socket. Without systemd it sends nothing. */
export class Notifier {
  readonly #path: string | undefined;
  #hasWarned = false;

  /** @param socket as in `NOTIFY_SOCKET`: a path, or a name in the abstract namespace after an `@` */
  constructor(socket: string | undefined) {
    this.#path = socket !== undefined && /^[/@]./.test(socket) ? socket.replace(/^@/, "\0") : undefined;
  }

  /** Whether there is a notification socket. */
  get isConnected(): boolean {
    return this.#path !== undefined;
  }

  /**
   * Sends a message. A failure is a warning, given once, because the service works without systemd, too.
   *
   * @param timeout ms that this may block while systemd's queue is full
   */
  send(message: Message, fds: readonly number[] = [], timeout = QUEUE_TIMEOUT): void {
    if (this.#path === undefined) return;
    try {
      send(this.#path, encode(message), fds, timeout);
    } catch (error) {
      if (!this.#hasWarned) process.emitWarning(reasonOf(error), { code: "HANDOVER_SYSTEMD" });
      this.#hasWarned = true;
    }
  }
}

/** CLOCK_MONOTONIC in µs, which is what Node's high-resolution time is. */
export function monotonic(): string {
  return String(process.hrtime.bigint() / 1_000n);
}

/** ms; systemd reads hundreds of messages in this time, even while it reloads its units. */
const QUEUE_TIMEOUT = 1_000;

/** Characters; systemd 252 ignores messages that are longer than a page. */
const MAX_VALUE_LENGTH = 1_000;

/** A line break in a value would begin another assignment. */
function encode(message: Message): Uint8Array {
  const lines = Object.entries(message).map(([name, value]) => {
    const text = String(value).replace(/\s+/g, " ").slice(0, MAX_VALUE_LENGTH);
    return `${name}=${text}`;
  });
  return Buffer.from(lines.join("\n"));
}

function send(path: string, data: Uint8Array, fds: readonly number[], timeout: number): void {
  const on = `systemd at ${path.replace("\0", "@")}`;
  const fd = check(native().connectUnix("dgram", path), "connect to", on);
  try {
    let sent = native().send(fd, data, fds);
    if (sent === -builtins.os.constants.errno.EAGAIN && native().poll(fd, POLL.writable, timeout) > 0) {
      sent = native().send(fd, data, fds);
    }
    check(sent, "notify", on);
  } finally {
    native().close(fd);
  }
}
