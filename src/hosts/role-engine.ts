import type { EngineReport } from "../exchange/hosts.js";
import type { Peer } from "../exchange/parcel.js";

/**
 * The database, or another store, over which the hosts of one service agree on seats and roles. Each method is one question; it
 * rejects with `ERR_EXCHANGE` if it is not known to have been answered. It must not be repeated then, except where that is said.
 *
 * Times are those of the engine's clock: no two hosts' clocks are compared.
 */
export interface RoleEngine {
  /** For people: `postgres`, `etcd`. */
  readonly name: string;
  readonly service: string;
  /** ms after its last beat in which a seat keeps what it has. */
  readonly lease: number;

  /** Connects, and checks that the engine can be used. `wake` is called when something may have changed for this process. */
  open(seat: () => string, wake: (what: Wake) => void): Promise<void>;
  close(): Promise<void>;
  /** Lets what is asked from now on go over new connections: the present ones may be half open. An open question may be answered yet. */
  reconnect(): void;

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
  /**
   * Renews the lease of a seat that another process holds. May be repeated. Resolves with the other seats that live; with
   * undefined if the lease has ended.
   */
  renew(seat: string): Promise<readonly OtherSeat[] | undefined>;
  /** Removes a seat. */
  leave(seat: string): Promise<void>;

  /** Gives a seat a role that no living seat has. Resolves with its fence; with undefined if another one has it. */
  acquire(seat: string, role: string): Promise<number | undefined>;
  /** Gives a role up, with the last fence that this process has given. */
  release(seat: string, role: string, fence: number): Promise<void>;
}

/** What an engine says of itself. */
export type EngineInspection = Pick<EngineReport, "server" | "schema" | "problems">;

/**
 * What may have changed: offers, the other seats, roles; or something about this seat's own offers and claims. Or it is known:
 * parcels of this seat were taken.
 */
export type Wake = "offer" | "seat" | "role" | "own" | Taken;

export interface Taken {
  readonly taken: readonly number[];
  /** The seat. */
  readonly by: string;
}

/** A process of the service, as the others see it. */
export interface SeatRow extends Peer {
  readonly seat: string;
  /** The process that beats for it. */
  readonly holder: string;
  readonly draining: boolean;
  /** The topics of what it takes: see `topicOf`. */
  readonly topics: readonly string[];
  /** The highest that it has given. */
  readonly fence: number;
  /** When it was entered, on the engine's clock: a larger number is later. */
  readonly started: number;
}

/** A seat of another process. */
export type OtherSeat = Omit<SeatRow, "fence">;
