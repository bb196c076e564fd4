import type { Parcel, Peer, Refusal, Settlement } from "./parcel.js";

/** Something that parcels are offered on and taken from. Only the exchange knows where they go. */
export interface Exchange {
  /** How many parcels should be unsettled at a time, unless the program says otherwise. */
  readonly window: number;
  /** The processes that take parcels of this kind, and of this label if one is given. */
  peers(kind: string, label?: string): readonly Peer[];
  /** Offers parcels in this turn; one with a large body follows when that is written. Never throws. */
  offer(parcels: readonly Parcel[]): readonly Offered[];
  /**
   * Gives offered parcels of a kind, and of one label if it is given, to `take`. Returns a function that ends this; open
   * deliveries are still settled.
   */
  subscribe(
    kind: string,
    label: string | undefined,
    take: DeliveryHandler,
    options?: SubscriptionOptions,
  ): () => void;
  /** Answers the other end's queries for parcels of a kind. */
  onQuery(kind: string, handler: QueryHandler): void;
  /** A copy of the oldest parcel that the other end holds; undefined if it holds no parcel. */
  peek(kind: string, label: string): Promise<Parcel | undefined>;
  /** Whether this parcel is, or may be, held at the other end; if so, that is asked to offer it next. */
  expedite(kind: string, label: string, id: string): Promise<boolean>;
}

export interface SubscriptionOptions {
  /** How many more parcels this process would take now. Only an exchange with several takers asks. Default: any number. */
  room?(): number;
}

/** An offered parcel. */
export interface Offered {
  /** Never rejects. */
  readonly settled: Promise<Settlement>;
  /** Asks for the parcel back. It may have been taken or refused before: {@link settled} has the outcome. */
  withdraw(): void;
  /** Leaves the parcel, which has a `ttl`, in the exchange. Only an exchange between hosts can. */
  park?(): void;
}

/**
 * Takes a parcel with its descriptors, or refuses it; to throw is to refuse with the error's code. Owns the descriptors of
 * a parcel that it has taken. `later`: it is asked again, as long as the parcel is on offer.
 */
export type DeliveryHandler = (parcel: Parcel, delivery: Delivery) => TakeResult | Promise<TakeResult>;

export type TakeResult = "taken" | "later" | Refusal;

/** A parcel that is being taken. */
export interface Delivery {
  /** Above the fence of every owner before; the fence of this owner if the parcel is taken. */
  readonly fence: number;
  /** The process that offers it. */
  readonly from: Peer;
  /** The time, in ms, since it was offered, on the exchange's clock. Default 0. */
  readonly age?: number;
  /** Aborts when the parcel is withdrawn: the handler must undo its work, and its result is ignored. */
  readonly signal: AbortSignal;
  /** Records a refusal while the parcel may still be taken. Its owner receives it if the parcel is withdrawn. */
  note(refusal: Refusal): void;
}

/** Answers queries for the parcels that this process holds. */
export interface QueryHandler {
  /** A copy of the oldest parcel. */
  peek?(label: string): Promise<Parcel | undefined>;
  /** Whether the parcel is held; it is then to be offered next. */
  expedite?(label: string, id: string): boolean;
}
