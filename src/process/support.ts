import { HandoverError } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import { isMainThread } from "../platform/node-internals.js";

/** @throws {HandoverError} `ERR_NOT_SUPPORTED` where handover cannot work */
export function assertSupported(): void {
  const why =
    process.platform === "win32"
      ? "Windows cannot pass sockets to another process; handover/testing has a stand-in for development"
      : !isMainThread()
        ? "a worker thread cannot be replaced on its own; create the Upgrader in the main thread"
        : isClusterWorker()
          ? "in a node:cluster worker the primary owns the sockets"
          : undefined;
  if (why !== undefined)
    throw new HandoverError("ERR_NOT_SUPPORTED", `new Upgrader() does not work here: ${why}`);
}

/** A worker has a channel to its primary, which most processes do not have. */
function isClusterWorker(): boolean {
  return process.connected !== undefined && builtins.cluster.isWorker;
}
