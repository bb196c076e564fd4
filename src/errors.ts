/**
 * What went wrong, for programs. Each code is reached by a test and explained in docs/errors.md.
 */
export type ErrorCode =
  | "ERR_ABORTED"
  | "ERR_ALREADY_UPGRADED"
  | "ERR_CHILD_EXITED"
  | "ERR_CONTROL"
  | "ERR_DESCRIPTOR"
  | "ERR_ENCODING"
  | "ERR_INTERNAL"
  | "ERR_LISTEN"
  | "ERR_NOT_READY"
  | "ERR_NOT_SUPPORTED"
  | "ERR_ON_PROBATION"
  | "ERR_OPTION"
  | "ERR_PID_1"
  | "ERR_PID_FILE"
  | "ERR_PROTOCOL"
  | "ERR_REFUSED"
  | "ERR_ROLE"
  | "ERR_ROLLED_BACK"
  | "ERR_SPAWN"
  | "ERR_STOPPED"
  | "ERR_TOO_LARGE"
  | "ERR_TOO_MANY_DRAINING"
  | "ERR_UNIT"
  | "ERR_UNRESPONSIVE"
  | "ERR_UPGRADE_IN_PROGRESS"
  | "ERR_UPGRADE_TIMEOUT"
  | "ERR_UPGRADER_EXISTS";

/**
 * The one error this package throws. `code` is stable; the message says what was being done, on what, and
 * why it failed; `cause` holds the system's own error where there is one.
 */
export class HandoverError extends Error {
  override readonly name = "HandoverError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** What an unknown thrown value says for itself. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
