import type { UnitOwner } from "../errors.js";
import type { Ownership } from "../exchange/directory.js";
import type { EngineReport } from "../exchange/hosts.js";
import type { Parcel, Peer, Refusal } from "../exchange/parcel.js";

/**
 * The database, or another store, over which the hosts of one service agree. Each method is one question; it rejects with
 * `ERR_EXCHANGE` if it is not known to have been answered. It must not be repeated then, except where that is said.
 *
 * Times are those of the engine's clock: no two hosts' clocks are compared.
 */
export interface Engine {
  /** For people: `postgres`, `etcd`. */
  readonly name: string;
  readonly service: string;
  /** ms after its last beat in which a seat keeps what it has. */
  readonly lease: number;
  /** Parcels of one question, and parcels of one process that are unsettled at a time. */
  readonly batch: number;
  readonly window: number;
  /** Bytes of the bodies of one question, unless the first is larger. */
  readonly questionBytes: number;
  /** Bytes of the largest body. */
  readonly maxBody: number;
  /** Whether {@link open}'s `wake` is called for every change; else the processes ask again and again. */
  readonly wakes: boolean;

  /** Connects, and checks that the engine can be used. `wake` is called when something may have changed for this process. */
  open(seat: () => string, wake: (what: Wake) => void): Promise<void>;
  close(): Promise<void>;

  /** Looks for what `handover doctor` reports. */
  inspect(): Promise<EngineInspection>;
  /** One short question on the connection that renews leases. Resolves with the engine's time, in ms since 1970, if it tells it. */
  time(): Promise<number | undefined>;

  /** Adds a seat. Resolves with the time of that, and the other seats that live. */
  enter(seat: SeatRow): Promise<{ readonly started: number; readonly others: readonly OtherSeat[] }>;
  /**
   * Renews the lease of a seat, as its holder; `former` is the holder before, from which it takes over. May be repeated.
   * Resolves with the other seats that live; with undefined if the lease has ended, or another process holds the seat.
   */
  beat(seat: SeatRow, former?: string): Promise<readonly OtherSeat[] | undefined>;
  /** Renews the lease of a seat that another process holds. May be repeated. */
  renew(seat: string): Promise<boolean>;
  /** Removes a seat. */
  leave(seat: string): Promise<void>;
  /** Removes what the dead have left, and makes available what they had claimed. May be repeated. */
  sweep(): Promise<void>;

  /** See {@link Directory.own}; in the order of `ids`. */
  own(seat: string, kind: string, ids: readonly string[], from?: string): Promise<(number | UnitOwner)[]>;
  disown(seat: string, kind: string, units: readonly Ownership[]): Promise<void>;
  where(kind: string, id: string): Promise<UnitOwner | undefined>;
  /** Makes units this seat's whose owner's lease has ended, and that are not on offer; at most `limit`. */
  takeOrphans(seat: string, kind: string, limit: number): Promise<Ownership[]>;

  /** Offers parcels. Resolves with their numbers, in order; undefined for a unit that is not this seat's. */
  offer(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]>;
  /**
   * For an {@link offer} that was not answered: the numbers of its parcels. One that had not arrived does nothing any longer. May
   * be repeated.
   */
  findOffers(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]>;
  /** What has become of offered parcels, of those at least about which there is news. May be repeated. */
  look(seat: string, offers: readonly OfferKey[]): Promise<OfferState[]>;
  /** Takes parcels back that no living process is taking, and marks the others. May be repeated. */
  withdraw(seat: string, numbers: readonly number[]): Promise<readonly number[]>;

  /** Settles parcels as taken, and claims others. A number of `settle` that is missing in the answer was withdrawn. */
  step(seat: string, settle: readonly number[], wish: Wish): Promise<StepResult>;
  /** For a {@link step} that was not answered: everything that this seat has claimed, as it is now. */
  claims(seat: string): Promise<Claimed[]>;
  /** Gives claimed parcels up that were withdrawn, or that this process does not take. May be repeated. */
  refuse(seat: string, refused: readonly { number: number; refusal: Refusal | undefined }[]): Promise<void>;

  acquire(seat: string, role: string): Promise<number | undefined>;
  /** Gives a role up, with the last fence that this process has given. */
  release(seat: string, role: string, fence: number): Promise<void>;
}

/** What an engine says of itself. */
export type EngineInspection = Pick<EngineReport, "server" | "schema" | "problems">;

/** What may have changed: offers, the other seats, roles; or something about this seat's own offers and claims. */
export type Wake = "offer" | "seat" | "role" | "own";

/** A process of the service, as the others see it. */
export interface SeatRow extends Peer {
  readonly seat: string;
  /** The process that beats for it. */
  readonly holder: string;
  readonly draining: boolean;
  /** The topics of what it takes: see {@link topicOf}. */
  readonly topics: readonly string[];
  /** The highest that it has given. */
  readonly fence: number;
  /** When it was entered, on the engine's clock: a larger number is later. */
  readonly started: number;
}

/** A seat of another process. */
export type OtherSeat = Omit<SeatRow, "fence">;

/** A parcel that is to be offered, with the fence of its owner. */
export interface Draft {
  readonly parcel: Parcel;
  readonly fence: number;
  /** Unique for the process that offers it. */
  readonly key: string;
}

export interface OfferKey {
  readonly number: number;
  readonly kind: string;
  readonly label: string;
  readonly id: string;
}

export interface OfferState {
  readonly number: number;
  /** Whether it was taken. */
  readonly isGone: boolean;
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
