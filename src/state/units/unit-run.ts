import { holdOpen, letClose } from "../../util/attached.js";
import { reasonOf } from "../../errors.js";
import { isThenable } from "../../util/timeout.js";
import type { AttachedSocket, UnitKind } from "./unit-definition.js";

/** One run of a unit, from `run` until its signal aborts. A rollback begins another run. */
export class UnitRun {
  /** Resolves with the result of `run`. */
  readonly started: Promise<unknown>;
  /** Made when the program asks for the signal: 100,000 of them would keep the garbage collector busy. */
  #controller: AbortController | undefined;
  #hasAborted = false;
  #isStarted = false;
  #value: unknown;
  #sockets: Set<AttachedSocket> | undefined;

  /** Calls `run` at once. */
  constructor({ definition }: UnitKind, id: string, state: unknown, fence: number) {
    const signal = (): AbortSignal => this.#signal;
    const attach = (socket: AttachedSocket): void => {
      (this.#sockets ??= new Set()).add(socket);
      holdOpen(socket);
    };
    this.started = this.#start(() =>
      definition.run(id, state, {
        get signal() {
          return signal();
        },
        fence,
        attach,
      }),
    );
    this.started.catch(() => {});
  }

  /** Whether `run` has returned. */
  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** The result of `run`; undefined before. */
  get value(): unknown {
    return this.#value;
  }

  get hasAborted(): boolean {
    return this.#hasAborted;
  }

  /** The unit no longer runs in this process. */
  abort(): void {
    this.#hasAborted = true;
    this.#controller?.abort(ENDED);
  }

  /** The unit runs in another process: the clients that are attached connect again, and find it there. */
  closeSockets(reason: () => string): void {
    for (const socket of this.#sockets ?? []) {
      letClose(socket);
      try {
        socket.close(1012, reason());
      } catch (error) {
        process.emitWarning(`a socket that is attached to a unit cannot be closed: ${reasonOf(error)}`, {
          code: "HANDOVER_UNIT",
        });
      }
    }
    this.#sockets = undefined;
  }

  /** The unit ends here: its sockets close as all others do. */
  detachSockets(): void {
    for (const socket of this.#sockets ?? []) letClose(socket);
    this.#sockets = undefined;
  }

  get #signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#hasAborted) this.#controller.abort(ENDED);
    return this.#controller.signal;
  }

  async #start(run: () => unknown): Promise<unknown> {
    const running = run();
    this.#value = isThenable(running) ? await running : running;
    this.#isStarted = true;
    return this.#value;
  }
}

/** The reason of every signal. An exception of its own for each of 100,000 units would take half a second. */
const ENDED = new DOMException("the unit no longer runs in this process", "AbortError");
