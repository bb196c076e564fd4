/**
 * `node --import handover/auto server.js`: upgrades a program that does not know of handover. It takes over the servers that the
 * program opens on fixed addresses.
 *
 * @module
 */
import { isMainThread } from "../platform/node-internals.js";
import { interceptListen } from "./intercept.js";

const declare = isMainThread() ? interceptListen() : undefined;

/**
 * Declares the program initialized, with `HANDOVER_READY=manual`; otherwise a successor counts as initialized when no further server
 * was opened for a moment. Resolves when this process accepts; at once in a process whose servers were not taken over, or not yet.
 *
 * @throws {HandoverError} as `Upgrader.ready()`
 */
export async function ready(): Promise<void> {
  await declare?.();
}
