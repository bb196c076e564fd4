import { builtins } from "../platform/builtins.js";

/** A signal asked this program to exit. */
export class Interrupted extends Error {
  /** As a shell reports a program that was killed by the signal. */
  readonly exitCode: number;

  constructor(signal: NodeJS.Signals) {
    super(`interrupted by ${signal}`);
    this.exitCode = 128 + builtins.os.constants.signals[signal];
  }
}

/**
 * Runs `work` with a signal that is aborted when this program is asked to exit, so that `work` can clean up first. A
 * second Ctrl-C does not interrupt the cleanup.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => controller.abort(new Interrupted(signal));
  for (const signal of SIGNALS) process.on(signal, interrupt);
  try {
    return await work(controller.signal);
  } finally {
    for (const signal of SIGNALS) process.removeListener(signal, interrupt);
  }
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
