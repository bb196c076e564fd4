import { isMainThread } from "../platform/node-internals.js";
import { reportUncaught } from "./uncaught-error.js";

/** Its value names the descriptor of the channel, and that descriptor's inode: `3:12345`. */
export const CHANNEL_VARIABLE = "HANDOVER_CHANNEL";

/** Where the first copy of this module leaves the value for the others: `handover/auto` has one of its own. */
const TAKEN = Symbol.for("handover.channel");

/**
 * The value of {@link CHANNEL_VARIABLE}. It is taken out of the environment when this module loads, so that programs that
 * this process starts are not taken for successors.
 */
export const channelVariable = takeVariable();

function takeVariable(): string | undefined {
  if (!isMainThread()) return undefined;
  const shared = globalThis as { [TAKEN]?: string };
  const value = process.env[CHANNEL_VARIABLE];
  delete process.env[CHANNEL_VARIABLE];
  if (value === undefined) return shared[TAKEN];
  reportUncaught(value);
  shared[TAKEN] = value;
  return value;
}
