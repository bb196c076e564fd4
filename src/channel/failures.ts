import { constants } from "node:os";
import { HandoverError } from "../errors.js";
import { systemError } from "../platform/native.js";

const { EAGAIN, ECONNREFUSED, ECONNRESET, EINTR, ENOBUFS, ENOMEM, ENOTCONN, EPIPE } = constants.errno;

/** Not among the errors that Node's `os.constants` knows. */
const ETOOMANYREFS = process.platform === "darwin" ? 59 : 109;

/** The kernel lacks something now, and may have it soon. The call has changed nothing. */
const TRANSIENT = new Set([EAGAIN, EINTR, ENOBUFS, ENOMEM, ETOOMANYREFS]);

/** The other end has closed, as sendmsg(2) reports it. */
const CLOSED = new Set([EPIPE, ECONNRESET, ECONNREFUSED, ENOTCONN]);

/** ms after which a call that failed for want of memory, or of room for descriptors, is made again. */
export const RETRY_AFTER = 10;

/** Whether a call of the addon, which returned `result`, has to be made again later. */
export function isTransient(result: number): boolean {
  return TRANSIENT.has(-result);
}

/** Whether the descriptor reports the time at which the call can be made again. */
export function isAnnounced(result: number): boolean {
  return result === -EAGAIN;
}

/** Whether a failed send says that the other end has closed. After every other error it may be open. */
export function hasClosed(result: number): boolean {
  return CLOSED.has(-result);
}

/** @param doing what failed: `send`, `receive` */
export function channelError(result: number, doing: string, on: string): HandoverError {
  const cause = systemError(result, doing, on);
  const message = `the channel between two generations has failed: ${cause.message}`;
  return new HandoverError("ERR_CHANNEL", message, { cause });
}

/** Whether an error says that a message is lost, and not that the other process broke the protocol. */
export function isFailure(error: unknown): error is HandoverError {
  return error instanceof HandoverError && error.code === "ERR_CHANNEL";
}
