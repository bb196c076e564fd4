import { constants } from "node:os";
import { overrideMember, wrapMember } from "../platform/node-internals.js";

/**
 * The stop signals of a program that does not know of handover. Its own listeners close servers and end the process: they run
 * when this process has drained, and not when the signal arrives.
 */
export class ProgramExit {
  /** Called for a stop signal, once the program's servers are handover's. */
  #onStop: (() => void) | undefined;
  readonly #emit = process.emit.bind(process) as (name: string, ...args: unknown[]) => boolean;

  /** To be made before the program adds a listener: Node binds the function that is there at that time. */
  constructor() {
    const emit = (name: string, ...args: unknown[]): boolean => {
      if (this.#onStop === undefined || !STOP.has(name as NodeJS.Signals)) return this.#emit(name, ...args);
      this.#onStop();
      return true;
    };
    overrideMember(process, "emit", emit as typeof process.emit);
  }

  /** From now on a stop signal only calls `onStop`. */
  take(onStop: () => void): void {
    this.#onStop = onStop;
    // Without a listener of its own the process would die.
    for (const name of STOP) process.on(name, doNothing);
  }

  /**
   * Ends the program as if it had been stopped now: by its own listeners, after which it may do what it still has to do. The exit code
   * is 0, unless the program has set another.
   */
  end(): void {
    this.#onStop = undefined;
    for (const name of STOP) process.off(name, doNothing);
    process.exitCode ??= 0;
    const name = [...STOP].find((one) => process.listenerCount(one) > 0);
    if (name !== undefined) {
      endInPlaceOfSignal();
      this.#emit(name, name, constants.signals[name]);
    } else {
      this.#emit("beforeExit", process.exitCode);
      process.exit();
    }
  }
}

/** Libraries send the signal again after their clean-up, so that the process ends. It has not been killed, and is to say so. */
function endInPlaceOfSignal(): void {
  wrapMember(process, "kill", (kill) => (pid, signal) => {
    if (pid === process.pid && STOP.has(signal as NodeJS.Signals)) process.exit();
    return kill(pid, signal);
  });
}

const STOP: ReadonlySet<NodeJS.Signals> = new Set(["SIGTERM", "SIGINT"] as const);

function doNothing(): void {
  // The signal has been dealt with.
}
