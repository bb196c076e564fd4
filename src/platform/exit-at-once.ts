import { native } from "./native.js";

/**
 * Ends this process without taking Node apart first, which takes it longer than a short command. Returns if that may not be skipped:
 * something is to be written or called at the end, or there is no addon.
 */
export function exitAtOnce(code: number): void {
  const isAwaited = process.execArgv.length > 0 || process.listenerCount("exit") > 0;
  if (isAwaited || AT_EXIT.some((name) => process.env[name])) return;
  try {
    native().exitAtOnce(code);
  } catch {
    // There is no addon.
  }
}

/** Variables by which Node writes files when it exits. */
const AT_EXIT = ["NODE_OPTIONS", "NODE_V8_COVERAGE", "NODE_COMPILE_CACHE"];
