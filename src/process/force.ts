/** Ends a process that lives on, with code 1, after `timeout` ms; 0: never. */
export function endByForce(timeout: number): void {
  if (timeout > 0) setTimeout(end, timeout).unref();
}

function end(): void {
  process.emitWarning(
    "the process did not end after it had been replaced or stopped: something keeps it alive",
    { code: "HANDOVER_EXIT_TIMEOUT" },
  );
  // The warning is printed in the next tick.
  setImmediate(() => process.exit(1));
}
