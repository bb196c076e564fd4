import { HandoverError } from "../errors.js";

/** The error of an upgrade that was aborted. */
export function abortReason(signal: AbortSignal | undefined): HandoverError {
  const reason: unknown = signal?.reason;
  if (reason instanceof HandoverError) return reason;
  return new HandoverError("ERR_ABORTED", "the upgrade was aborted", { cause: reason });
}
