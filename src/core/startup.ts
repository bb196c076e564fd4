import { CONNECTION_KIND as CONNECTION } from "../connections/freeze.js";
import { deferred } from "../util/deferred.js";
import type { HandoverError } from "../errors.js";
import type { ProcessContext } from "./context.js";
import type { Predecessor } from "../process/predecessor.js";
import { handoverTimeout } from "../lifecycle.js";

/** How a process comes to accept: from its start until its predecessor, if it has one, has said go. */
export class Startup {
  readonly #estate: ProcessContext;
  readonly #accepted = deferred<void>();
  /** That the predecessor has talked: it lives, and its channel is closed. */
  #nonsense: HandoverError | undefined;
  /** For the predecessor's go. */
  #patience: NodeJS.Timeout | undefined;

  constructor(estate: ProcessContext) {
    this.#estate = estate;
    const { direct: parent } = estate.predecessors;
    if (parent !== undefined) this.#follow(parent);
  }

  /** Resolves when this process accepts, and holds its roles. */
  get accepted(): Promise<void> {
    return this.#accepted.promise;
  }

  /** Tells the predecessor. One that died before it said go has left the service to us. */
  announce(): void {
    const { predecessors: older, inventory, settings, dispatch: happen } = this.#estate;
    const { direct: parent } = older;
    if (this.#nonsense !== undefined) return this.#giveUp(this.#nonsense);
    if (parent === undefined || parent.isGone) return happen("mayAccept");
    inventory.reportUsed((used) => parent.sendReady(used));
    const { upgradeTimeout } = settings;
    this.#patience = setTimeout(
      () => this.#giveUp(handoverTimeout(parent.pid, upgradeTimeout)),
      upgradeTimeout,
    );
    return undefined;
  }

  accept(): void {
    clearTimeout(this.#patience);
    const { sockets, inventory, predecessors: older, dispatch: happen } = this.#estate;
    const accepting = sockets.accept();
    inventory.closeUnused();
    if (older.directPid === undefined) happen("confirmed");
    this.#complete(accepting).then(this.#accepted.resolve, this.#accepted.reject);
  }

  /** This process stops before it accepts. */
  abandon(reason: HandoverError): void {
    clearTimeout(this.#patience);
    this.#accepted.reject(reason);
  }

  #follow(parent: Predecessor): void {
    const { predecessors: older, sockets, dispatch: happen } = this.#estate;
    this.#serve(parent);
    parent.subscribe({
      commit: (others, ticketKeys) => {
        for (const one of others) {
          this.#serve(one);
          one.takeChannelOver({ generation: this.#estate.generation, pid: process.pid });
        }
        older.add(others);
        sockets.setTicketKeys(ticketKeys);
        happen("mayAccept");
      },
      confirmed: () => happen("confirmed"),
      stopping: () => happen("peerStopping"),
      rehearsed: () => this.#vanish(),
    });
    void parent.gone.then((nonsense) => {
      this.#nonsense = nonsense;
      // It has not said which fences it had given away.
      if (this.#estate.state().name !== "ready") this.#estate.processState.fences.skipAhead();
      if (nonsense === undefined) happen("mayAccept");
      else this.#giveUp(nonsense);
      happen("confirmed");
    });
  }

  /** It was only tried, and leaves nothing behind that was not there before. */
  #vanish(): void {
    const { inventory, pidFile, emit: tell, generation: number } = this.#estate;
    tell("rehearsed", { generation: number });
    inventory.closeUsed(new Set());
    pidFile?.discard();
    process.exit(0);
  }

  /** Takes what an older generation offers. */
  #serve({ exchange }: Predecessor): void {
    exchange.subscribe(CONNECTION, undefined, this.#estate.connections.adopt);
    this.#estate.processState.subscribeTo(exchange);
  }

  /** The predecessor lives, but cannot be understood, or does not answer: it goes on serving. */
  #giveUp(reason: HandoverError): void {
    if (this.#estate.state().name !== "announced") return;
    this.#accepted.reject(reason);
    this.#estate.dispatch("stop");
  }

  async #complete(accepting: Promise<unknown>): Promise<void> {
    const { pidFile, processState: memory, emit: tell, generation: number } = this.#estate;
    pidFile?.publish();
    await accepting;
    await memory.roles.acquire();
    tell("ready", { generation: number });
  }
}
