import type { Peer } from "../channel/messages.js";
import { deferred } from "../util/deferred.js";
import { HandoverError } from "../errors.js";
import type { Predecessor, DrainProgress } from "./predecessor.js";

/** The older generations that are still alive: the parent, and those before it that still drain. */
export class Predecessors {
  readonly direct: Predecessor | undefined;
  readonly #all = new Set<Predecessor>();

  constructor(parent: Predecessor | undefined) {
    this.direct = parent;
    if (parent !== undefined) this.add([parent]);
  }

  get alive(): readonly Predecessor[] {
    return [...this.#all];
  }

  /** The parent's PID while it lives. */
  get directPid(): number | undefined {
    return this.direct?.isGone === false ? this.direct.pid : undefined;
  }

  add(older: readonly Predecessor[]): void {
    for (const one of older) {
      this.#all.add(one);
      void one.gone.then(() => this.#all.delete(one));
    }
  }

  /** After a rollback their channels are read here again, by `reader`: this process. */
  readAgain(reader: Peer): void {
    for (const one of this.#all) one.readAgain(reader);
  }

  /** This process cannot be undone any more: what it took from them is its own. */
  sendConfirmed(): void {
    for (const one of this.#all) one.sendConfirmed();
  }

  /** How their drains are going, newest first. What one does not tell in time is left out. */
  async progress(): Promise<({ generation: number; pid: number } & Partial<DrainProgress>)[]> {
    const reports = this.alive.map(async (one) => {
      const report = await one.queryProgress(PROGRESS_TIMEOUT);
      const { generation, pid } = one;
      return report === undefined ? { generation, pid } : { generation, pid, ...report };
    });
    return (await Promise.all(reports)).toSorted((a, b) => b.generation - a.generation);
  }

  /** Resolves when the parent is gone; at once without one. */
  async waitForParent(signal: AbortSignal | undefined): Promise<void> {
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

/** How long, in ms, an older generation may take to answer. */
const PROGRESS_TIMEOUT = 500;
