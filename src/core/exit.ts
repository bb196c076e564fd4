import { setImmediate as turn } from "node:timers/promises";
import type { Outcome } from "../lifecycle.js";
import { runAll } from "../util/run-all.js";
import type { ProcessContext } from "./context.js";

/** Closes everything that a process still has after its drain. */
export async function closeEverything(context: ProcessContext, outcome: Outcome): Promise<void> {
  const { sockets, connections, pidFile, hosts, predecessors } = context;
  // Last: until here the lease holds what drains.
  await hosts?.leave(predecessors.alive.length > 0);
  try {
    runAll([() => sockets.closeAll(), () => connections.dispose()]);
  } finally {
    // The servers emit `close` in the next tick.
    await turn();
    if (outcome === "stopped") pidFile?.remove();
  }
}

/**
 * Waits until the other generations are gone, where systemd would kill them when this process, the main one, exits.
 *
 * @param successor resolves when the successor is gone; undefined without a successor
 */
export async function waitForGenerations(
  context: ProcessContext,
  successor: Promise<void> | undefined,
): Promise<void> {
  const { settings, predecessors, serviceManager } = context;
  const { drainTimeout, exitTimeout } = settings;
  const others = predecessors.alive.map(({ gone }) => gone);
  await serviceManager.waitForOthers(
    successor === undefined ? others : [successor, ...others],
    drainTimeout + exitTimeout,
  );
}
