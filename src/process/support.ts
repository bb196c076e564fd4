import cluster from "node:cluster";
import { isMainThread } from "node:worker_threads";
import { HandoverError } from "../errors.js";

/** @throws {HandoverError} `ERR_NOT_SUPPORTED` where handover cannot work */
export function assertSupported(): void {
  const why =
    process.platform === "win32"
      ? "Windows cannot pass sockets to another process; handover/testing has a stand-in for development"
      : !isMainThread
        ? "a worker thread cannot be replaced on its own; create the Upgrader in the main thread"
        : cluster.isWorker
          ? "in a node:cluster worker the primary owns the sockets"
          : undefined;
  if (why !== undefined)
    throw new HandoverError("ERR_NOT_SUPPORTED", `new Upgrader() does not work here: ${why}`);
}
