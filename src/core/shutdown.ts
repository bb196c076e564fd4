import { setImmediate as turn } from "node:timers/promises";
import { deferred } from "../util/deferred.js";
import { Ending, type Ended } from "./ending.js";
import type { Estate } from "./context.js";
import type { Outcome } from "../lifecycle.js";
import type { Report } from "../process/predecessor.js";
import type { Succession } from "./upgrade.js";

/** How a process ceases to accept, and leaves: from the commit of an upgrade, or a stop, until it has nothing left. */
export class Retirement {
  readonly #estate: Estate;
  readonly #over = deferred<{ outcome: Outcome } & Ended>();
  #ending: Ending | undefined;
  #ended: Ended = { destroyed: 0, handedOver: 0, stayed: {}, units: {} };

  constructor(estate: Estate) {
    this.#estate = estate;
  }

  /** Resolves when nothing is left, and it cannot be undone. */
  get over(): Promise<{ outcome: Outcome } & Ended> {
    return this.#over.promise;
  }

  /** How it is going. */
  get report(): Report {
    return {
      connections: this.#estate.connections.size,
      handedOver: this.#ending?.handedOver ?? 0,
      remaining: this.#ending?.remaining ?? 0,
    };
  }

  /** The successor accepts. */
  handOn(succession: Succession): void {
    this.#estate.sockets.stop();
    succession.announce();
    this.#end(succession);
    succession.beginProbation();
  }

  /** The successor is dead: this process serves again. */
  rollBack(succession: Succession): void {
    const { memory, tell } = this.#estate;
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
    sockets.letGo();
    // A client that nobody will serve is refused at once, and does not wait in a queue to be reset.
    inventory.closeUsed(new Set());
    this.#end();
  }

  /** After the drain and the probation. */
  async leave(outcome: Outcome): Promise<void> {
    const { sockets, connections, pidFile, tell } = this.#estate;
    sockets.end();
    connections.close();
    // The servers emit `close` in the next tick.
    await turn();
    if (outcome === "stopped") pidFile?.remove();
    tell("exit", { outcome, ...this.#ended });
    this.#over.resolve({ outcome, ...this.#ended });
  }

  #end(succession?: Succession): void {
    const { settings, connections, memory, journal, tell, happen } = this.#estate;
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
