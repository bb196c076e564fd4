import { KIND as CONNECTION } from "../connections/freeze.js";
import { deferred } from "../util/deferred.js";
import type { HandoverError } from "../errors.js";
import type { Estate } from "./context.js";
import type { Predecessor } from "../process/predecessor.js";
import { noGo } from "../refusal.js";

/** How a process comes to accept: from its start until its predecessor, if it has one, has said go. */
export class Accession {
  readonly #estate: Estate;
  readonly #accepted = deferred<void>();
  /** That the predecessor has talked: it lives, and its channel is closed. */
  #nonsense: HandoverError | undefined;
  /** For the predecessor's go. */
  #patience: NodeJS.Timeout | undefined;

  constructor(estate: Estate) {
    this.#estate = estate;
    const { parent } = estate.older;
    if (parent !== undefined) this.#follow(parent);
  }

  /** Resolves when this process accepts, and holds its roles. */
  get accepted(): Promise<void> {
    return this.#accepted.promise;
  }

  /** Tells the predecessor. One that died before it said go has left the service to us. */
  announce(): void {
    const { older, inventory, settings, happen } = this.#estate;
    const { parent } = older;
    if (this.#nonsense !== undefined) return this.#giveUp(this.#nonsense);
    if (parent === undefined || parent.isGone) return happen("go");
    inventory.announce((used) => parent.announceReady(used));
    const { upgradeTimeout } = settings;
    this.#patience = setTimeout(() => this.#giveUp(noGo(parent.pid, upgradeTimeout)), upgradeTimeout);
    return undefined;
  }

  accept(): void {
    clearTimeout(this.#patience);
    const { sockets, inventory, older, happen } = this.#estate;
    const accepting = sockets.accept();
    inventory.takeOver();
    if (older.parentPid === undefined) happen("kept");
    this.#complete(accepting).then(this.#accepted.resolve, this.#accepted.reject);
  }

  /** This process stops before it accepts. */
  abandon(reason: HandoverError): void {
    clearTimeout(this.#patience);
    this.#accepted.reject(reason);
  }

  #follow(parent: Predecessor): void {
    const { older, sockets, happen } = this.#estate;
    this.#serve(parent);
    parent.follow({
      go: (others, ticketKeys) => {
        for (const one of others) {
          this.#serve(one);
          one.begin({ generation: this.#estate.number, pid: process.pid });
        }
        older.add(others);
        sockets.setTicketKeys(ticketKeys);
        happen("go");
      },
      kept: () => happen("kept"),
      stopping: () => happen("stopping"),
      rehearsed: () => this.#vanish(),
    });
    void parent.gone.then((nonsense) => {
      this.#nonsense = nonsense;
      // It has not said which fences it had given away.
      if (this.#estate.state().name !== "ready") this.#estate.memory.fences.leap();
      if (nonsense === undefined) happen("go");
      else this.#giveUp(nonsense);
      happen("kept");
    });
  }

  /** It was only tried, and leaves nothing behind that was not there before. */
  #vanish(): void {
    const { inventory, pidFile, tell, number } = this.#estate;
    tell("rehearsed", { generation: number });
    inventory.closeUsed(new Set());
    pidFile?.discard();
    process.exit(0);
  }

  /** Takes what an older generation offers. */
  #serve({ exchange }: Predecessor): void {
    exchange.serve(CONNECTION, undefined, this.#estate.connections.adopt);
    this.#estate.memory.serve(exchange);
  }

  /** The predecessor lives, but cannot be understood, or does not answer: it goes on serving. */
  #giveUp(reason: HandoverError): void {
    if (this.#estate.state().name !== "announced") return;
    this.#accepted.reject(reason);
    this.#estate.happen("stop");
  }

  async #complete(accepting: Promise<unknown>): Promise<void> {
    const { pidFile, memory, tell, number } = this.#estate;
    pidFile?.publish();
    await accepting;
    await memory.roles.acquire();
    tell("ready", { generation: number });
  }
}
