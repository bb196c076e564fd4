import { HandoverError } from "../errors.js";
import type { Settings } from "../options.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { Successor, type SuccessorListener } from "../process/successor.js";
import { launchInfo, successorCommand } from "../process/command.js";

/** A successor that is ready, and has not been told to go. */
export interface ReadySuccessor {
  successor: Successor;
  /** ms from the start of its process. */
  spawn: number;
  ready: number;
}

/**
 * Starts a successor and waits until it is ready. Whatever goes wrong, it is dead when this rejects.
 *
 * @param onSpawn hears of the child as soon as its process runs, and may `fail()` it
 * @throws {HandoverError} `ERR_SPAWN`, `ERR_CHILD_EXITED`, `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_ABORTED`
 */
export async function startSuccessor(
  { spawn, upgradeTimeout }: Pick<Settings, "spawn" | "upgradeTimeout">,
  generation: number,
  items: readonly InventoryItem[],
  listener: SuccessorListener & { spawned(child: Successor): void },
  signal: AbortSignal | undefined,
): Promise<ReadySuccessor> {
  if (signal?.aborted) throw aborted(signal);
  const start = performance.now();
  const child = await Successor.start(successorCommand(launchInfo, spawn()), generation, items, listener);
  const spawned = performance.now();
  listener.spawned(child);
  const abort = (): void => child.fail(aborted(signal));
  const timer = setTimeout(() => {
    // It may have been ready for long, and this process too busy to hear it.
    child.readNow();
    setImmediate(() => isReady || child.fail(late(child.pid, upgradeTimeout)));
  }, upgradeTimeout);
  let isReady = false;
  try {
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    await child.ready;
    isReady = true;
    return { successor: child, spawn: spawned - start, ready: performance.now() - spawned };
  } catch (error) {
    child.close();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

/** The error of an upgrade that was aborted. */
export function aborted(signal: AbortSignal | undefined): HandoverError {
  const { reason } = signal ?? {};
  if (reason instanceof HandoverError) return reason;
  return new HandoverError("ERR_ABORTED", "the upgrade was aborted", { cause: reason });
}

function late(pid: number, timeout: number): HandoverError {
  const message = `the successor (pid ${pid}) was not ready within ${timeout} ms, and was killed`;
  return new HandoverError("ERR_UPGRADE_TIMEOUT", message);
}
