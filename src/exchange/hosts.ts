import type { UnitOwner } from "../errors.js";
import type { Directory } from "./directory.js";
import type { Exchange } from "./exchange.js";
import type { FencingTokens } from "./fencing.js";
import type { Peer } from "./parcel.js";

/** The directory of the units of all hosts. */
export interface HostDirectory extends Directory {
  /**
   * Gives units of a kind to `take` whose owner's lease has ended: they are this process's then, with the fence. Returns a
   * function that ends this.
   */
  orphans(kind: string, take: (id: string, fence: number) => void): () => void;
}

/** Decides which process of all hosts has a role. */
export interface RoleArbiter {
  /**
   * Asks for a role. Resolves with the fence of its new holder, or undefined if another process has it.
   *
   * @throws {HandoverError} `ERR_EXCHANGE`
   */
  acquire(name: string): Promise<number | undefined>;
  /** Gives a role up. Another process may have it at once. Never rejects. */
  release(name: string): Promise<void>;
  /** Whether the role is the seat's: the process that this one has replaced may have acquired it. */
  isHeld(name: string): boolean;
  /** Calls `run` when a role may have become free. */
  onChange(run: () => void): void;
}

/** What a process tells the other hosts of itself. */
export interface SeatHost {
  readonly self: UnitOwner;
  readonly address: string | undefined;
  readonly release: string | undefined;
  readonly fences: FencingTokens;
  /** The lease has ended while this process was alive. */
  readonly onFailure: (error: Error) => void;
}

/** The part of one process in a service that runs on several hosts. */
export interface Hosts {
  readonly exchange: Exchange;
  readonly directory: HostDirectory;
  readonly roles: RoleArbiter;
  /** Whether this process may run what is held by its lease. It looks at the clock. */
  readonly isHeld: boolean;
  /** Calls `run`, in the turn in which the lease ends: all that is held by it must end in that turn. */
  onLost(run: () => void): void;
  /**
   * Connects, before this process accepts.
   *
   * @throws {HandoverError} `ERR_EXCHANGE` if the engine cannot be used
   */
  check(): Promise<void>;
  /**
   * This process accepts: it takes part from now on.
   *
   * @param predecessors resolves when no predecessor is left that could give its seat to this process
   */
  enter(predecessors: Promise<unknown> | undefined): void;
  /** Takes the seat that a predecessor gives. */
  subscribeTo(exchange: Exchange): void;
  /** Gives the seat to the successor. Resolves with whether that has it. */
  giveTo(exchange: Exchange): Promise<boolean>;
  /** The successor is dead: the seat is this process's again. */
  rollBack(): void;
  /** Says that this process stops, and takes nothing any longer. Resolves when the others know, or cannot be told. */
  announceDrain(): Promise<void>;
  /** Ends the part of this process. Its seat is given up, unless the successor has it. */
  leave(): Promise<void>;
  status(): HostsStatus;
}

/** What the command `handover status` shows of the hosts. */
export interface HostsStatus {
  readonly engine: string;
  readonly service: string;
  readonly seat: string;
  /** `none` before this process accepts; `lost` while its lease has ended and it has no new one. */
  readonly lease: "none" | "held" | "lost";
  /** ms until the lease ends, unless it is renewed. */
  readonly remaining: number;
  /** The other processes. */
  readonly peers: readonly Peer[];
  /** Parcels of this process that are offered and not settled; and those that it has left there. */
  readonly offered: number;
  readonly parked: number;
}

/** Makes the part of a process: the value of the option `exchange`. */
export interface HostExchange {
  /** The engine, for people: `postgres`, `etcd`. */
  readonly engine: string;
  join(host: SeatHost): Hosts;
}
