import { constants } from "node:os";
import type { Settings } from "../options.js";
import { readStat } from "../platform/proc.js";

interface SignalListener {
  upgrade(): void;
  stop(): void;
}

/**
 * Handles the signals until the process ends, so that a signal cannot interrupt the program's cleanup after `exit`. A second
 * stop signal ends the process at once, with the status of a process that the signal has killed.
 */
export function onSignals(signals: Settings["signals"], listener: SignalListener): void {
  const terminal = new Terminal();
  const handlers = new Map<NodeJS.Signals, () => void>();
  let stopping = false;
  if (signals.upgrade !== undefined) {
    const isHangUp = signals.upgrade === "SIGHUP";
    // The kernel takes the terminal away after it has sent the signal: look in the next turn.
    const handle = (): unknown => setImmediate(() => (isHangUp && terminal.wasLost()) || listener.upgrade());
    handlers.set(signals.upgrade, handle);
  }
  for (const name of signals.stop) {
    handlers.set(name, () => {
      if (stopping) endBySignal(name);
      stopping = true;
      listener.stop();
    });
  }
  for (const [name, handler] of handlers) process.on(name, handler);
}

/** The kernel ignores a signal that PID 1 sends to itself, so PID 1 exits with 128 plus the signal, as in a shell. */
function endBySignal(name: NodeJS.Signals): void {
  if (process.pid === 1) process.exit(128 + constants.signals[name]);
  process.removeAllListeners(name);
  process.kill(process.pid, name);
}

/**
 * The controlling terminal. A SIGHUP that the kernel sends when the terminal or the session's leader is gone does not request
 * an upgrade. The only sign is that the kernel has taken the terminal from the process.
 */
class Terminal {
  #had = hasTerminal();

  /** True once after the terminal was lost. */
  wasLost(): boolean {
    const lost = this.#had && !hasTerminal();
    if (lost) this.#had = false;
    return lost;
  }
}

/** The field `tty_nr` of proc(5): 0 without a controlling terminal. */
function hasTerminal(): boolean {
  try {
    return Number(readStat("self")[4]) !== 0;
  } catch {
    return false;
  }
}

/** Calls `exit` with code 1 if this process is still alive after `timeout` ms; 0: never. Does not keep it alive. */
export function forceExitAfter(timeout: number, exit: (code: number) => void): void {
  if (timeout > 0) setTimeout(forceExit, timeout, exit).unref();
}

function forceExit(exit: (code: number) => void): void {
  process.emitWarning(
    "the process did not end after it had been replaced or stopped: something keeps it alive",
    { code: "HANDOVER_EXIT_TIMEOUT" },
  );
  // Node prints the warning in the next tick.
  setImmediate(exit, 1);
}
