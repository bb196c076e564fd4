import { overrideMember } from "../platform/node-internals.js";

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
      if (this.#onStop === undefined || !STOP.has(name)) return this.#emit(name, ...args);
      this.#onStop();
      return true;
    };
    overrideMember(process, "emit", emit as typeof process.emit);
  }

  /** From now on a stop signal only calls `onStop`. */
  take(onStop: () => void): void {
    this.#onStop = onStop;
    // Without a listener of its own the process would die.
    for (const name of STOP) process.on(name as NodeJS.Signals, doNothing);
  }

  /**
   * Ends the program as if it had been stopped now: by its own listeners, and at the latest after `timeout` ms. The exit code is 0,
   * unless the program has set another.
   */
  end(timeout: number): void {
    this.#onStop = undefined;
    const name = [...STOP].find((one) =>
      process.listeners(one as NodeJS.Signals).some((own) => own !== doNothing),
    );
    process.exitCode ??= 0;
    if (name === undefined) process.exit();
    if (timeout > 0) setTimeout(() => process.exit(), timeout).unref();
    // A program that has nothing more to do ends by itself. What would keep it are its own servers, and they are closed.
    this.#emit(name, name, SIGNAL_NUMBERS[name]);
  }
}

const STOP: ReadonlySet<string> = new Set(["SIGTERM", "SIGINT"]);

const SIGNAL_NUMBERS: Record<string, number> = { SIGTERM: 15, SIGINT: 2 };

function doNothing(): void {
  // The signal has been dealt with.
}
