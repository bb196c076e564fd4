import { setTimeout } from "node:timers/promises";
import { describeAddress, type RequestedAddress } from "../address.js";
import { ADDON_FILE } from "../platform/addon.js";
import { ancestorsOf, hasLoaded, readBlock } from "../platform/proc.js";
import { openSocket, type OpenOptions } from "../sockets/bind.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { findPortOwners } from "../sockets/port-owner.js";
import { systemClock } from "../util/clock.js";
import { report } from "./report.js";

/**
 * {@link openSocket}; waits for an address that a worker holds whose supervisor was killed. Such a worker closes its listeners
 * as soon as it notices, which may be later than the start of the next supervisor.
 *
 * @param limit in ms
 * @throws {HandoverError} `ERR_LISTEN`
 */
export async function openWhenFree(
  address: RequestedAddress,
  options: OpenOptions,
  limit = LIMIT,
): Promise<Omit<InventoryItem, "name">> {
  const deadline = systemClock.now() + limit;
  let orphan: number | undefined;
  for (let attempt = 1; ; attempt++) {
    try {
      return await openSocket(address, options, undefined);
    } catch (error) {
      if (!isInUse(error) || systemClock.now() >= deadline) throw error;
      if (orphan === undefined) {
        orphan = findPortOwners(address).find(isOrphanedWorker);
        if (orphan !== undefined) reportWait(address, orphan, limit);
        // The holder may have closed it before it was looked for.
        else if (attempt > 1) throw error;
      }
    }
    // A service that stops meanwhile does not wait for it.
    if (orphan !== undefined) await setTimeout(LOOK_EVERY, undefined, { ref: false });
  }
}

function reportWait(address: RequestedAddress, orphan: number, limit: number): void {
  const who = `a worker of a supervisor that is gone (pid ${orphan})`;
  report(`${describeAddress(address)} is held by ${who}: waiting for it, ${limit / 1_000} s at most`);
}

/** ms */
const LIMIT = 10_000;

/** ms between two attempts: a socket that another process closes has no event. */
const LOOK_EVERY = 20;

/**
 * Whether a process is a worker without a supervisor: what has started it is gone, and its ancestor by now is another program.
 * A worker of a service that runs stays where it is, and to wait for it would be in vain.
 */
function isOrphanedWorker(pid: number): boolean {
  try {
    if (!readBlock(pid, "environ").some((variable) => variable.startsWith("HANDOVER_WORKER="))) return false;
  } catch {
    // Of another user, or it has exited.
    return false;
  }
  const user = process.geteuid?.() ?? 0;
  return !ancestorsOf(pid).some((ancestor) => hasLoaded(ancestor.pid, ADDON_FILE, user));
}

/** Whether an address cannot be opened because another process holds it. */
export function isHeldElsewhere(error: unknown, address: RequestedAddress): boolean {
  return isInUse(error) && !findPortOwners(address).includes(process.pid);
}

function isInUse(error: unknown): boolean {
  return ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === "EADDRINUSE";
}
