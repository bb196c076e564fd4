import { holdOpen, letClose } from "../../util/attached.js";
import { reasonOf } from "../../errors.js";
import { isThenable } from "../../util/timeout.js";
import type { AttachedSocket, UnitKind } from "./unit-definition.js";

/** One run of a unit, from `run` until its signal aborts. A rollback begins another run. */
export class UnitRun {
  /** Resolves with the result of `run`. */
  readonly started: Promise<unknown>;
  readonly #controller = new AbortController();
  #isStarted = false;
  #value: unknown;
  #sockets: Set<AttachedSocket> | undefined;

  /** Calls `run` at once. */
  constructor({ definition }: UnitKind, id: string, state: unknown, fence: number) {
    const { signal } = this.#controller;
    const attach = (socket: AttachedSocket): void => {
      (this.#sockets ??= new Set()).add(socket);
      holdOpen(socket);
    };
    this.started = this.#start(() => definition.run(id, state, { signal, fence, attach }));
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
    return this.#controller.signal.aborted;
  }

  /** The unit no longer runs in this process. */
  abort(): void {
    this.#controller.abort(ENDED);
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

  async #start(run: () => unknown): Promise<unknown> {
    const running = run();
    this.#value = isThenable(running) ? await running : running;
    this.#isStarted = true;
    return this.#value;
  }
}

/** The reason of every signal. An exception of its own for each of 100,000 units would take half a second. */
const ENDED = new DOMException("the unit no longer runs in this process", "AbortError");
