/** What moves: something of a kind, under a label, in a version of its own. */
export interface Parcel {
  /** Decides who takes it: `connection`, … */
  readonly kind: string;
  readonly label: string;
  readonly id: string;
  readonly version: number;
  readonly body: Uint8Array;
  /** Only an exchange on this host carries descriptors. They stay the owner's. */
  readonly fds: readonly number[];
}

/** What became of an offered parcel. Unless it was taken it belongs to its owner, as if never offered. */
export type Settlement =
  | { readonly how: "taken" }
  /** The taker's reason is a code: `ERR_NO_TAKER`, … */
  | { readonly how: "refused"; readonly code: string }
  /** Nobody answered: the other side is gone, or its owner took it back. */
  | { readonly how: "withdrawn" };

/** Something that parcels are offered on, and taken from. */
export interface Exchange {
  /** Whether anybody may take what is offered. */
  readonly isOpen: boolean;
  /**
   * Offers a batch as soon as there is room in the window of those that are not settled. `make` is called in
   * the very turn in which its parcels leave: what must not change in between can be frozen there.
   *
   * @returns what became of each, in their order; never rejects
   */
  offer(make: () => readonly Parcel[]): Promise<readonly Settlement[]>;
  /** Gives what is offered of a kind to `take`, from now on. */
  serve(kind: string, take: Taker): void;
}

/**
 * Takes a parcel, with its descriptors, or refuses it with a code; one that throws refuses. The taker owns the
 * descriptors of what it has taken.
 */
export type Taker = (parcel: Parcel) => "taken" | { readonly refused: string };
