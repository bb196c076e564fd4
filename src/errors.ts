/**
 * What went wrong, for programs. Each code is reached by a test and explained in docs/errors.md.
 */
export type ErrorCode =
  | "ERR_ABORTED"
  | "ERR_ALREADY_UPGRADED"
  | "ERR_CEASE_TIMEOUT"
  | "ERR_CHANNEL"
  | "ERR_CHILD_EXITED"
  | "ERR_CONTROL"
  | "ERR_DESCRIPTOR"
  | "ERR_ELSEWHERE"
  | "ERR_ENCODING"
  | "ERR_EXCHANGE"
  | "ERR_INTERNAL"
  | "ERR_LEASE"
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
  | "ERR_UNHEALTHY"
  | "ERR_UNIT"
  | "ERR_UNKILLABLE"
  | "ERR_UNRESPONSIVE"
  | "ERR_UNMANAGED_LISTENER"
  | "ERR_MANAGER"
  | "ERR_UPGRADE_IN_PROGRESS"
  | "ERR_UPGRADE_TIMEOUT"
  | "ERR_UPGRADER_EXISTS";

/**
 * The further codes of refusals: why a connection, a slot or a unit could not be offered, or was not taken. A refusal can
 * also have an {@link ErrorCode}, or the code of an error that the program threw.
 */
export type RefusalCode =
  | "ERR_ADAPTER"
  | "ERR_CHECK"
  | "ERR_CODEC"
  | "ERR_DAMAGED"
  | "ERR_EXPIRED"
  | "ERR_FREEZE"
  | "ERR_HALF_MOVED"
  | "ERR_HTTP2"
  | "ERR_INTERCEPTED"
  | "ERR_MEMORY"
  | "ERR_MIGRATE"
  | "ERR_NO_TAKER"
  | "ERR_NOT_ELIGIBLE"
  | "ERR_RUNNING"
  | "ERR_STOP"
  | "ERR_TAKER"
  | "ERR_TIMEOUT"
  | "ERR_TLS_CERTIFICATE"
  | "ERR_TLS_CIPHER"
  | "ERR_TLS_RECORDS"
  | "ERR_TLS_SELF_TEST"
  | "ERR_TLS_VERSION"
  | "ERR_VERSION";

/** The process that has a unit. */
export interface UnitOwner {
  readonly generation: number;
  readonly pid: number;
  /** Of a worker: its index. */
  readonly index?: number;
  /** Of units with the scope `"global"`: the seat of that process. */
  readonly seat?: string;
  /** The name of its host. */
  readonly host?: string;
  /** Where its clients reach it: the option `address` of that process. */
  readonly address?: string;
  /** The release of its program. */
  readonly release?: string;
}

/**
 * The error class of this package. `code` is stable; the message says what was being done, on what, and why it failed;
 * `cause` is the error of the system or of the program, where there is one.
 */
export class HandoverError extends Error {
  override readonly name = "HandoverError";
  /** A {@link RefusalCode} only where state that has arrived is read: by `slot.peek()` and by a codec. */
  readonly code: ErrorCode | RefusalCode;
  /** Of `ERR_ELSEWHERE`: the process that runs the unit. */
  declare readonly owner?: UnitOwner;

  constructor(
    code: ErrorCode | RefusalCode,
    message: string,
    options?: ErrorOptions & { owner?: UnitOwner },
  ) {
    super(message, options);
    this.code = code;
    if (options?.owner !== undefined) this.owner = options.owner;
  }
}

/**
 * `error` itself if it is a HandoverError; else one with `code` whose cause it is, so that a programming error, too, is
 * reported with a code.
 *
 * @param doing what failed: `acquire the role "a"`
 */
export function toHandoverError(error: unknown, code: ErrorCode, doing: string): HandoverError {
  if (error instanceof HandoverError) return error;
  return new HandoverError(code, `cannot ${doing}: ${reasonOf(error)}`, { cause: error });
}

/** The code of an unknown thrown value: its own if it has one, else `otherwise`. */
export function codeOf(error: unknown, otherwise: ErrorCode | RefusalCode): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" ? code : otherwise;
}

/** The message of an unknown thrown value. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
