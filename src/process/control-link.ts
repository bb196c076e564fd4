import type { WorkerHosts } from "../channel/messages.js";
import type { HandoverError } from "../errors.js";

/**
 * The link to the process that started this one, and that decides when it accepts: the direct predecessor, or the supervisor
 * of this worker.
 */
export interface ControlLink {
  readonly pid: number;
  readonly isGone: boolean;
  /** Resolves when that process is gone; with an error if it broke the protocol, and may still live. */
  readonly gone: Promise<HandoverError | undefined>;
  /** Resolves if the channel fails. That process may live: {@link gone} says when it does not. */
  readonly failed: Promise<HandoverError>;
  /** Reads the messages that have arrived, without waiting for the event loop. */
  readNow(): void;
  /** This process stops before it was told to accept: that process keeps serving without it. */
  leave(): void;
  sendReady(used: string[]): void;
  sendCommitAck(): void;
  /**
   * @param inspected whether a debugger may stop this process
   * @param connections that this process has
   * @param hosts its part in a service on several hosts
   */
  sendHeartbeat(inspected: boolean, connections: number, hosts: WorkerHosts | undefined): void;
  sendStopping(): void;
}
