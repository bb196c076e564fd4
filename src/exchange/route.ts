import type { Exchange, Offered } from "./exchange.js";
import type { Parcel, Peer } from "./parcel.js";

/** The way on which the parcels of one kind and label leave a process. It does not change during a drain. */
export class Route {
  /** Undefined if no process would take them. */
  readonly exchange: Exchange | undefined;
  /** Whether it leads to other hosts. */
  readonly isGlobal: boolean;
  readonly #kind: string;
  readonly #label: string;
  /** The parcels that were given to {@link offer} in this turn. */
  #batch: { parcel: Parcel; resolve: (offered: Offered) => void }[] = [];

  constructor(exchange: Exchange | undefined, isGlobal: boolean, kind: string, label: string) {
    this.exchange = exchange;
    this.isGlobal = isGlobal;
    this.#kind = kind;
    this.#label = label;
  }

  /** The processes that take these parcels now. */
  get peers(): readonly Peer[] {
    return this.exchange?.peers(this.#kind, this.#label) ?? [];
  }

  get hasTaker(): boolean {
    return this.peers.length > 0;
  }

  /**
   * Offers a parcel; {@link exchange} must exist. Parcels of one turn of the event loop go in one message: a message for each
   * of 100,000 units would take seconds.
   */
  async offer(parcel: Parcel): Promise<Offered> {
    if (this.#batch.length === 0) queueMicrotask(() => this.#offerBatch());
    return new Promise((resolve) => this.#batch.push({ parcel, resolve }));
  }

  #offerBatch(): void {
    const batch = this.#batch;
    this.#batch = [];
    const offered = this.exchange!.offer(batch.map(({ parcel }) => parcel));
    for (const [n, { resolve }] of batch.entries()) resolve(offered[n]!);
  }
}
