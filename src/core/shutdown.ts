import { setImmediate as turn } from "node:timers/promises";
import { deferred } from "../util/deferred.js";
import { Ending } from "./ending.js";
import type { DrainSummary } from "../events.js";
import type { ProcessContext } from "./context.js";
import type { Outcome } from "../lifecycle.js";
import type { DrainProgress } from "../process/predecessor.js";
import type { Upgrade } from "./upgrade.js";

/** How a process ceases to accept, and leaves: from the commit of an upgrade, or a stop, until it has nothing left. */
export class Shutdown {
  readonly #estate: ProcessContext;
  readonly #over = deferred<{ outcome: Outcome } & DrainSummary>();
  #ending: Ending | undefined;
  #ended: DrainSummary = { destroyed: 0, moved: 0, stayed: {}, units: {} };

  constructor(estate: ProcessContext) {
    this.#estate = estate;
  }

  /** Resolves when nothing is left, and it cannot be undone. */
  get over(): Promise<{ outcome: Outcome } & DrainSummary> {
    return this.#over.promise;
  }

  /** How it is going. */
  get report(): DrainProgress {
    return {
      connections: this.#estate.connections.size,
      moved: this.#ending?.moved ?? 0,
      remaining: this.#ending?.remaining ?? 0,
    };
  }

  /** The successor accepts. */
  handOn(succession: Upgrade): void {
    this.#estate.sockets.stop();
    succession.announce();
    this.#end(succession);
    succession.beginProbation();
  }

  /** The successor is dead: this process serves again. */
  rollBack(succession: Upgrade): void {
    const { processState: memory, emit: tell } = this.#estate;
    this.#ending?.cancel();
    this.#ending = undefined;
    memory.rollBack();
    succession.rollBack();
    void memory.roles.acquireAll().then((errors) => {
      for (const error of errors) tell("failed", { error });
    });
  }

  /** Nobody follows. */
  close(): void {
    const { pidFile, sockets, inventory } = this.#estate;
    pidFile?.discard();
    sockets.stop();
    sockets.closeSpares();
    // A client that nobody will serve is refused at once, and does not wait in a queue to be reset.
    inventory.closeUsed(new Set());
    this.#end();
  }

  /** After the drain and the probation. */
  async leave(outcome: Outcome): Promise<void> {
    const { sockets, connections, pidFile, emit: tell } = this.#estate;
    sockets.closeAll();
    connections.dispose();
    // The servers emit `close` in the next tick.
    await turn();
    if (outcome === "stopped") pidFile?.remove();
    tell("exit", { outcome, ...this.#ended });
    this.#over.resolve({ outcome, ...this.#ended });
  }

  #end(succession?: Upgrade): void {
    const {
      settings,
      connections,
      processState: memory,
      history: journal,
      emit: tell,
      dispatch: happen,
    } = this.#estate;
    const timeout = settings.drainTimeout;
    const { size } = connections;
    const ending = new Ending(connections, memory, {
      exchange: succession?.exchange,
      probation: succession?.kept ?? Promise.resolve(true),
      timeout,
      begin: () => tell("draining", { connections: size, timeout }),
      report: (ended) => journal.end(size, ended),
      failed: (error) => tell("failed", { error }),
    });
    this.#ending = ending;
    void ending.done.then((ended) => {
      // A rollback has ended the end.
      if (this.#ending !== ending) return;
      this.#ended = ended;
      happen("drained");
    });
  }
}
