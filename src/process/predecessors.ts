import type { Peer } from "../channel/messages.js";
import { HandoverError } from "../errors.js";
import { deferred } from "../util/deferred.js";
import type { DrainProgress, Predecessor } from "./predecessor.js";

/** The older generations that are still alive: the direct predecessor, and those before it that still drain. */
export class Predecessors {
  /** The process that this one replaces; undefined in the first process of a service. A worker may replace several. */
  readonly direct: Predecessor | undefined;
  readonly #alive = new Set<Predecessor>();

  constructor(replaced: readonly Predecessor[]) {
    this.direct = replaced[0];
    this.add(replaced);
  }

  get alive(): readonly Predecessor[] {
    return [...this.#alive];
  }

  add(predecessors: readonly Predecessor[]): void {
    for (const one of predecessors) {
      this.#alive.add(one);
      void one.gone.then(() => this.#alive.delete(one));
    }
  }

  /** Reads their channels in this process (`reader`) again, after a successor that read them has died. */
  readAgain(reader: Peer): void {
    for (const one of this.#alive) one.readAgain(reader);
  }

  /** Tells them that this process cannot be rolled back: the state that it took is final. */
  sendConfirmed(): void {
    for (const one of this.#alive) one.sendConfirmed();
  }

  /** The progress of their drains, newest first. Figures that one does not send in time are left out. */
  async progress(): Promise<(Peer & Partial<DrainProgress>)[]> {
    const all = this.alive.map(async (one) => {
      const progress = await one.queryProgress(PROGRESS_TIMEOUT);
      const { generation, pid } = one;
      return progress === undefined ? { generation, pid } : { generation, pid, ...progress };
    });
    return (await Promise.all(all)).toSorted((a, b) => b.generation - a.generation);
  }

  /** Resolves when the direct predecessor is gone; at once without one. */
  async waitForDirect(signal: AbortSignal | undefined): Promise<void> {
    if (this.direct === undefined) return;
    const aborted = deferred<never>();
    const abort = (): void => {
      const message = "the wait for the parent was aborted";
      aborted.reject(new HandoverError("ERR_ABORTED", message, { cause: signal?.reason }));
    };
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    await Promise.race([this.direct.gone, aborted.promise]).finally(() => {
      signal?.removeEventListener("abort", abort);
    });
  }
}

/** ms in which an older generation has to report its progress. */
const PROGRESS_TIMEOUT = 500;
