import type { Settings } from "../options.js";
import { builtins } from "../platform/builtins.js";
import { signalName } from "../platform/child-process.js";
import { hasTerminal, isForeground, isSessionEnding } from "./terminal.js";

interface SignalListener {
  /** @param isOwn whether this process has sent the signal to itself */
  upgrade(isOwn: boolean): void;
  stop(): void;
  /** The process ends now, by a second stop signal: what it would leave behind is to end, too. */
  end?(): void;
}

/**
 * Handles the signals until the process ends, so that a signal cannot interrupt the program's cleanup after `exit`. A second
 * stop signal of a person ends the process at once, with the status of a process that the signal has killed.
 */
export function onSignals(signals: Settings["signals"], listener: SignalListener): void {
  const handlers = new Map<NodeJS.Signals, () => void>();
  const own = new OwnSignals(handlers);
  const terminal = new Terminal();
  let stoppedAt: number | undefined;
  if (signals.upgrade !== undefined) {
    const name = signals.upgrade;
    handlers.set(name, () => {
      const isOwn = own.take(name);
      if (name !== "SIGHUP" || !terminal.wasLost()) listener.upgrade(isOwn);
    });
  }
  for (const name of signals.stop) {
    handlers.set(name, () => {
      const isOwn = own.take(name);
      if (stoppedAt === undefined) {
        stoppedAt = performance.now();
        return listener.stop();
      }
      if (isOwn || !isOfPerson(name, stoppedAt)) return;
      listener.end?.();
      endBySignal(name);
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

/**
 * Whether a second stop signal is meant: the process is to end now. A shutdown that sends one signal to a whole group, and a
 * parent that forwards the signal, send two of them at the same time; Ctrl-C may be pressed twice within a second.
 */
function isOfPerson(name: NodeJS.Signals, stoppedAt: number): boolean {
  return performance.now() - stoppedAt >= SECOND_SIGNAL || (name === "SIGINT" && isForeground());
}

/** ms after the first stop signal from which on a second one ends the process. */
const SECOND_SIGNAL = 1_000;

/** The kernel ignores a signal that PID 1 sends to itself, so PID 1 exits with 128 plus the signal, as in a shell. */
function endBySignal(name: NodeJS.Signals): void {
  if (process.pid === 1) process.exit(128 + builtins.os.constants.signals[name]);
  process.removeAllListeners(name);
  process.kill(process.pid, name);
}

/**
 * The signals that this process sends to itself. Libraries send a signal again after their cleanup, so that it ends the
 * process; that must not be taken for a second signal of a person.
 */
class OwnSignals {
  readonly #sent = new Map<NodeJS.Signals, number>();

  /** @param counted the signals that have a handler, which takes each of them */
  constructor(counted: ReadonlyMap<NodeJS.Signals, unknown>) {
    const kill = process.kill.bind(process);
    process.kill = (pid, signal = "SIGTERM") => {
      const done = kill(pid, signal);
      const name = typeof signal === "string" ? (signal as NodeJS.Signals) : signalName(signal);
      const reachesItself = pid === process.pid || pid === 0 || pid === -process.pid;
      if (reachesItself && name !== undefined && counted.has(name)) this.#count(name, 1);
      return done;
    };
    // For `import { kill } from "node:process"`. Not before this process listens: it loads a module of Node. That is early enough,
    // as only a second signal is asked for its sender.
    setImmediate(() => builtins.module.syncBuiltinESMExports());
  }

  /** Whether the signal that has arrived is one of them. */
  take(name: NodeJS.Signals): boolean {
    const isOwn = (this.#sent.get(name) ?? 0) > 0;
    if (isOwn) this.#count(name, -1);
    return isOwn;
  }

  #count(name: NodeJS.Signals, change: 1 | -1): void {
    this.#sent.set(name, (this.#sent.get(name) ?? 0) + change);
  }
}

/** A SIGHUP that the kernel sends when the terminal or the session's leader is gone does not request an upgrade. */
class Terminal {
  #had = false;

  constructor() {
    // Not before this process listens: clients would wait for it.
    setImmediate(() => (this.#had = hasTerminal()));
  }

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
    `the process did not end after it had been replaced or stopped: ${describeResources()} keeps it alive`,
    { code: "HANDOVER_EXIT_TIMEOUT" },
  );
  // Node prints the warning in the next tick.
  setImmediate(exit, Number(process.exitCode ?? 1));
}

/** The open resources by their kind: `Timeout (2), PipeWrap`. Node does not list worker threads. */
function describeResources(): string {
  const counts = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const kinds = [...counts].map(([kind, count]) => (count === 1 ? kind : `${kind} (${count})`));
  return kinds.length === 0
    ? "a worker thread, or something else that Node does not list,"
    : kinds.join(", ");
}
