import type { Parcel, Peer, Refusal, Settlement } from "./parcel.js";

/**
 * Something that parcels are offered on, and taken from. It is the only thing that knows where they go. How many
 * may be unsettled at a time is decided by those who offer.
 */
export interface Exchange {
  /** Those who take parcels of this kind, and of this label if one is given. */
  peers(kind: string, label?: string): readonly Peer[];
  /** Offers parcels in this very turn; those with a large body follow when it is written. Never throws. */
  offer(parcels: readonly Parcel[]): readonly Offered[];
  /**
   * Gives what is offered of a kind, and of one label if it is given, to `take`, from now on. Returns what ends that;
   * what is being taken then is still settled.
   */
  subscribe(kind: string, label: string | undefined, take: DeliveryHandler): () => void;
  /** Answers those who ask for what is held here of a kind. */
  onQuery(kind: string, showcase: QueryHandler): void;
  /** A copy of the oldest parcel that is held at the other end; undefined where there is none. */
  peek(kind: string, label: string): Promise<Parcel | undefined>;
  /** Whether this very parcel is held, or may be held, at the other end; if it is, it should be offered next. */
  expedite(kind: string, label: string, id: string): Promise<boolean>;
}

/** An offered parcel. */
export interface Offered {
  /** Never rejects. */
  readonly settled: Promise<Settlement>;
  /** Asks for it back. It may have been taken, or refused, before that is heard: {@link settled} tells. */
  withdraw(): void;
}

/**
 * Takes a parcel, with its descriptors, or refuses it; one that throws refuses with the error's code. The taker owns
 * the descriptors of what it has taken.
 */
export type DeliveryHandler = (parcel: Parcel, delivery: Delivery) => TakeResult | Promise<TakeResult>;

export type TakeResult = "taken" | Refusal;

/** What a taker has of a parcel until it has settled it. */
export interface Delivery {
  /** Above that of every owner before; of this one if it takes the parcel. */
  readonly fence: number;
  /** Aborts when the parcel is withdrawn: what was begun must be undone, and the result means nothing. */
  readonly signal: AbortSignal;
  /** One who might have taken it does not; others still may. Its owner hears of it if nobody does. */
  note(refusal: Refusal): void;
}

/** What an owner shows of what it holds. */
export interface QueryHandler {
  /** A copy of the oldest parcel. */
  peek?(label: string): Promise<Parcel | undefined>;
  /** Whether this one is held; then it should be offered next. */
  expedite?(label: string, id: string): boolean;
}
