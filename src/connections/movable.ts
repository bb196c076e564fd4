import type { Parcel, Refusal } from "../exchange/parcel.js";

/** A connection that can move to the successor: one with a socket, or a dormant one. */
export interface Movable {
  /**
   * Freezes the connection if it is idle. Undefined if it is busy or has ended, a refusal if its adapter failed: it is
   * then as before.
   *
   * @param id of its parcel
   */
  freeze(id: number): FrozenConnection | Refusal | undefined;
  /** Lets the adapter bring a busy connection to rest; `rested` is called when it may be idle. */
  quiesce(rested: () => void): void;
  /** Undoes {@link quiesce}. */
  endQuiescing(): void;
  /** The connection does not move, so it is told to close although others are not. */
  markStaying(): void;
}

/** A frozen connection: it neither reads nor writes until its parcel is settled. */
export interface FrozenConnection {
  readonly connection: Movable;
  readonly parcel: Parcel;
  /** The successor has it. */
  readonly onTaken: () => void;
  /** The successor does not have it: it continues here. */
  readonly onReturned: () => void;
  /** Whether nothing was read from it or written to it since it was frozen. */
  readonly isUntouched: () => boolean;
  /** The successor has used it and is dead: it ends here. */
  readonly onLost: () => void;
}
