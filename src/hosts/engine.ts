import type { UnitOwner } from "../errors.js";
import type { Ownership } from "../exchange/directory.js";
import type { Parcel, Peer, Refusal } from "../exchange/parcel.js";
import type { RoleEngine } from "./role-engine.js";

export type { EngineInspection, OtherSeat, SeatRow, Taken, Wake } from "./role-engine.js";

/**
 * A database, or another store, over which the hosts of a service agree on roles and move units and slots. What
 * {@link RoleEngine} says of questions holds for these, too.
 */
export interface Engine extends RoleEngine {
  /** Parcels of one question, and parcels of one process that are unsettled at a time. */
  readonly batch: number;
  readonly window: number;
  /** Parcels that all idle processes together claim at a time. */
  readonly round: number;
  /** Bytes of the bodies of one question, unless the first is larger. */
  readonly questionBytes: number;
  /** Bytes of the largest body. */
  readonly maxBody: number;
  /** Whether {@link open}'s `wake` is called for every change; else the processes ask again and again. */
  readonly wakes: boolean;

  /** Removes what the dead have left, and makes available what they had claimed. May be repeated. */
  sweep(): Promise<void>;

  /** See {@link Directory.own}; in the order of `ids`. May be repeated. */
  own(seat: string, kind: string, ids: readonly string[], from?: string): Promise<(number | UnitOwner)[]>;
  disown(seat: string, kind: string, units: readonly Ownership[]): Promise<void>;
  where(kind: string, id: string): Promise<UnitOwner | undefined>;
  /** Units whose owner's lease has ended, and that are not on offer; at most `limit`. */
  findOrphans(seat: string, kind: string, limit: number): Promise<Orphan[]>;
  /**
   * Makes units this seat's that are as they were found. May be repeated.
   *
   * @param isRepeated whether an earlier question was not answered: the units that it has given this seat are in the answer, and
   *   it does nothing any longer
   */
  takeOrphans(
    seat: string,
    kind: string,
    orphans: readonly Orphan[],
    isRepeated: boolean,
  ): Promise<Ownership[]>;

  /** Gets ready to {@link offer}, before the first unit is frozen. */
  prepare?(seat: string): Promise<void>;
  /** Offers parcels. Resolves with their numbers, in order; undefined for a unit that is not this seat's. */
  offer(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]>;
  /**
   * For an {@link offer} that was not answered: the numbers of its parcels, and who has taken one meanwhile. One that had not
   * arrived does nothing any longer. May be repeated.
   */
  findOffers(seat: string, drafts: readonly Draft[]): Promise<FoundOffer[]>;
  /** What has become of offered parcels, of those at least about which there is news. May be repeated. */
  look(seat: string, offers: readonly OfferKey[]): Promise<OfferState[]>;
  /** Takes parcels back that no living process is taking, and marks the others. May be repeated. */
  withdraw(seat: string, numbers: readonly number[]): Promise<readonly Returned[]>;

  /** Settles parcels as taken, and claims others. A number of `settle` that is missing in the answer was withdrawn. */
  step(seat: string, settle: readonly number[], wish: Wish): Promise<StepResult>;
  /** For a {@link step} that was not answered: everything that this seat has claimed, as it is now. */
  claims(seat: string): Promise<Claimed[]>;
  /** Gives claimed parcels up that were withdrawn, or that this process does not take. May be repeated. */
  refuse(seat: string, refused: readonly Refused[]): Promise<void>;
}

/** A unit whose owner's lease has ended, with the seat and the fence of that owner. */
export interface Orphan extends Ownership {
  readonly owner: string;
}

/** A parcel that is to be offered, with the fence of its owner. */
export interface Draft {
  readonly parcel: Parcel;
  readonly fence: number;
  /** Unique for the process that offers it. */
  readonly key: string;
}

/** The number of a parcel on offer, or the seat that has taken it, if that is known; undefined if it was not offered. */
export type FoundOffer = number | { readonly takenBy: string | undefined } | undefined;

export interface OfferKey {
  readonly number: number;
  readonly kind: string;
  readonly label: string;
  readonly id: string;
}

/** A parcel that is its owner's again. */
export interface Returned {
  readonly number: number;
  /** Of its owner from now on: above those of all that had it. Undefined if it is what it was. */
  readonly fence: number | undefined;
}

export interface OfferState {
  readonly number: number;
  /** Whether it was taken. */
  readonly isGone: boolean;
  /** Whether a {@link Engine.withdraw} whose answer is missing has taken it back, or its time was over. */
  readonly isBack?: boolean;
  /** Of one that is back: see {@link Returned}. */
  readonly fence?: number | undefined;
  /** Of one that is gone: the seat that has taken it, if it is known. */
  readonly by?: string | undefined;
  /** How many processes have died with it. */
  readonly deaths: number;
  readonly refusedBy: readonly string[];
  readonly refusal?: Refusal | undefined;
}

/** What a process would take. */
export interface Wish {
  /** The most parcels of each topic. */
  readonly topics: ReadonlyMap<string, number>;
  /** ms that a parcel must have waited. */
  readonly minAge: number;
  /** Numbers of parcels that it would take later. */
  readonly except: ReadonlySet<number>;
}

/** A claimed parcel that a process gives up. */
export interface Refused {
  readonly number: number;
  /** Undefined if it was withdrawn, or is not looked at. */
  readonly refusal: Refusal | undefined;
  /** Whether this process may claim it again. */
  readonly isOpen: boolean;
}

export interface Claimed {
  readonly number: number;
  readonly parcel: Parcel;
  readonly fence: number;
  readonly seat: string;
  readonly from: Peer;
  /** ms since it was offered. */
  readonly age: number;
  readonly isWithdrawn: boolean;
}

export interface StepResult {
  readonly settled: readonly number[];
  readonly claimed: readonly Claimed[];
  /** Claimed parcels of this seat that their owners want back. */
  readonly withdrawn: readonly number[];
}

/** How many processes may die with a parcel before no other one takes it. */
export const MAX_DEATHS = 3;
