import { HandoverError, type ErrorCode } from "../errors.js";

/** Why an upgrade of workers fails. */
export interface CommitFailure {
  readonly code: CommitFailureCode;
  /** The workers at fault: old ones for `ERR_ROLE` and `ERR_CEASE_TIMEOUT`, else new ones; none for an abort. */
  readonly indexes: readonly number[];
}

type CommitFailureCode = Extract<
  ErrorCode,
  | "ERR_ABORTED"
  | "ERR_CEASE_TIMEOUT"
  | "ERR_CHILD_EXITED"
  | "ERR_ROLE"
  | "ERR_STOPPED"
  | "ERR_UNRESPONSIVE"
  | "ERR_UPGRADE_TIMEOUT"
>;

/**
 * The error of an upgrade that failed.
 *
 * @param cause what is known of the fault: the exit of a worker, the message of a role. Where a new worker could not be started,
 *   or was killed for a reason, the code is that of the cause. It is, too, where the caller aborted for a reason, such as its
 *   own timeout
 */
export function commitError({ code, indexes }: CommitFailure, cause?: Error): HandoverError {
  const workers = `${indexes.length === 1 ? "worker" : "the workers"} ${indexes.join(", ")}`;
  if (code === "ERR_CHILD_EXITED" && cause instanceof HandoverError && cause.code !== code)
    return new HandoverError(cause.code, `cannot upgrade: ${workers}: ${cause.message}`, { cause });
  if (code === "ERR_ABORTED" && cause instanceof HandoverError)
    return new HandoverError(cause.code, `cannot upgrade: ${cause.message}`, { cause });
  const detail = cause === undefined ? "" : `: ${cause.message}`;
  return new HandoverError(code, `cannot upgrade: ${SENTENCES[code](workers)}${detail}`, { cause });
}

/** Why a new process that has sent nothing is not ready. */
export const NOT_GREETED =
  "its program has not created an Upgrader (handover run --auto is for one that does not know of handover)";

const SENTENCES: Record<CommitFailureCode, (workers: string) => string> = {
  ERR_ABORTED: () => "the upgrade was aborted",
  ERR_STOPPED: () => "the service is being stopped",
  ERR_CHILD_EXITED: (workers) => `the new process of ${workers} has died`,
  ERR_UPGRADE_TIMEOUT: (workers) => `the new process of ${workers} was not ready in time`,
  ERR_ROLE: (workers) => `${workers} did not release the roles`,
  ERR_CEASE_TIMEOUT: (workers) => `${workers} did not stop accepting in time`,
  ERR_UNRESPONSIVE: (workers) => `the new process of ${workers} did not respond, and was killed`,
};
