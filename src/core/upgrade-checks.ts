import { HandoverError } from "../errors.js";
import { stateError } from "../lifecycle.js";
import { assertNoManager } from "../process/parents.js";
import { findUnmanaged } from "../sockets/unmanaged.js";
import type { ProcessContext } from "./context.js";

/**
 * Refuses an upgrade that would end the service, or lose a part of it.
 *
 * @param force allows it under a process manager
 * @throws {HandoverError} `ERR_PID_1`, `ERR_MANAGER`, `ERR_UNMANAGED_LISTENER`
 */
export function assertUpgradable(context: ProcessContext, doing: string, force: boolean): void {
  if (context.env.pid === 1) throw stateError("ERR_PID_1", doing);
  if (!force) assertNoManager(doing, context.generation === 0);
  assertManaged(context, doing);
}

/** @throws {HandoverError} `ERR_UNMANAGED_LISTENER` */
export function assertManaged(context: ProcessContext, doing: string): void {
  // In another state the upgrade is refused for that.
  const unmanaged = context.state().name === "ready" ? unmanagedListeners(context) : [];
  if (unmanaged.length === 0) return;
  const message = `cannot ${doing}: this process listens on ${unmanaged.join(", ")} without handover; ${HOW_TO_MANAGE}`;
  throw new HandoverError("ERR_UNMANAGED_LISTENER", message);
}

/** Warns of listeners for which upgrades are refused. */
export function warnAboutUnmanaged(context: ProcessContext): void {
  const unmanaged = unmanagedListeners(context);
  if (unmanaged.length === 0) return;
  const message = `this process listens on ${unmanaged.join(", ")} without handover, and upgrades are refused; ${HOW_TO_MANAGE}`;
  process.emitWarning(message, { code: "HANDOVER_UNMANAGED" });
}

/** A listener on a fixed address that the successor does not inherit would be gone after the upgrade. */
function unmanagedListeners({ settings, inventory }: ProcessContext): string[] {
  return settings.unmanaged === "allow" ? [] : findUnmanaged(inventory.forSuccessor());
}

const HOW_TO_MANAGE =
  'open it with upg.listen(server, …), or pass its descriptor on with upg.fds, or set the option unmanaged: "allow"';
