import { constants } from "node:os";
import type { Settings } from "../options.js";
import { hasTerminal, isSessionEnding } from "./terminal.js";

interface SignalListener {
  upgrade(): void;
  stop(): void;
}

/**
 * Handles the signals until the process ends, so that a signal cannot interrupt the program's cleanup after `exit`. A second
 * stop signal ends the process at once, with the status of a process that the signal has killed.
 */
export function onSignals(signals: Settings["signals"], listener: SignalListener): void {
  const handlers = new Map<NodeJS.Signals, () => void>();
  const terminal = new Terminal();
  let stopping = false;
  if (signals.upgrade !== undefined) {
    const name = signals.upgrade;
    handlers.set(name, () => {
      if (name !== "SIGHUP" || !terminal.wasLost()) listener.upgrade();
    });
  }
  for (const name of signals.stop) {
    handlers.set(name, () => {
      if (stopping) endBySignal(name);
      stopping = true;
      listener.stop();
    });
  }
  for (const [name, handler] of handlers) {
    handled.set(name, handler);
    // Another listener may close the servers: the successor must inherit them before.
    process.prependListener(name, handler);
  }
}

/** Warns of listeners that close the servers, or end the process, at the signal that requests an upgrade. */
export function warnAboutListeners(signal: NodeJS.Signals | undefined): void {
  const others = otherListeners(signal);
  if (others.length === 0) return;
  process.emitWarning(
    `${signal} upgrades this process, and runs other listeners of the program, too: ${others.join(", ")}. One that closes ` +
      `servers or exits cuts requests off. Take ${signal} from it, or give the option signals another signal.`,
    { code: "HANDOVER_SIGNAL" },
  );
}

/** The names of other listeners for a signal, which run at every upgrade that it requests. */
export function otherListeners(signal: NodeJS.Signals | undefined): string[] {
  if (signal === undefined) return [];
  const others = process.listeners(signal).filter((one) => one !== handled.get(signal));
  return others.map(({ name }) => name || "anonymous");
}

const handled = new Map<NodeJS.Signals, () => void>();

/** The kernel ignores a signal that PID 1 sends to itself, so PID 1 exits with 128 plus the signal, as in a shell. */
function endBySignal(name: NodeJS.Signals): void {
  if (process.pid === 1) process.exit(128 + constants.signals[name]);
  process.removeAllListeners(name);
  process.kill(process.pid, name);
}

/** A SIGHUP that the kernel sends when the terminal or the session's leader is gone does not request an upgrade. */
class Terminal {
  #had = hasTerminal();

  /** True once after the terminal was lost. */
  wasLost(): boolean {
    const lost = this.#had && (!hasTerminal() || isSessionEnding());
    if (lost) this.#had = false;
    return lost;
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
