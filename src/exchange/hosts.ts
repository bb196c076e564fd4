import type { WorkerHosts } from "../channel/messages.js";
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

/** The part of one process in a service that runs on several hosts: its seat, and the roles that it has. */
export interface Hosts {
  readonly roles: RoleArbiter;
  /** The same with units and slots; undefined if the engine has no more than roles. */
  readonly state: StateHosts | undefined;
  /** The engine, for people: `postgres`. */
  readonly engine: string;
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
  /**
   * Ends the part of this process. Its seat is given up, unless the successor has it.
   *
   * @param hasPredecessor whether one still drains: a seat that it has given is its own as well, and ends with the lease. Default
   *   false
   */
  leave(hasPredecessor?: boolean): Promise<void>;
  status(): HostsStatus;
  /** Looks at the engine as this process reaches it. Never rejects. */
  inspect(): Promise<EngineReport>;
}

/** Hosts between which state moves. */
export interface StateHosts extends Hosts {
  readonly exchange: Exchange;
  readonly directory: HostDirectory;
  /** Whether this process holds the seat that a predecessor has given it. It looks at the clock. */
  readonly isInherited: boolean;
}

/** What the command `handover status` shows of the hosts. */
export interface HostsStatus extends Omit<WorkerHosts, "peers"> {
  /** The other processes. */
  readonly peers: readonly Peer[];
}

/** Something that keeps an engine from being used as it is. */
export interface EngineProblem {
  /** What it is about: the engine as a whole, or what is prepared in it. */
  readonly check: "engine" | "schema";
  readonly what: string;
  readonly why: string;
  readonly fix: string;
}

/** What `handover doctor` learns of an engine, from a process that uses it. Times in ms. */
export interface EngineReport {
  readonly engine: string;
  readonly lease: number;
  /** Why it could not be asked; the other fields are left out then. */
  readonly unreachable?: string;
  /** The product and its version: `PostgreSQL 15.18`. */
  readonly server?: string;
  /** What is prepared in it: `schema version 1`. Left out if nothing need be. */
  readonly schema?: string;
  readonly problems?: readonly EngineProblem[];
  /** How far its clock is ahead of this host's. Left out if it tells no time. */
  readonly ahead?: number;
  /** The time of the slowest of some answers, on the connection that renews the lease. */
  readonly slowest?: number;
}

/** Makes the part of a process: the value of the option `exchange`. */
export interface HostExchange {
  /** The engine, for people: `postgres`, `etcd`. */
  readonly engine: string;
  join(host: SeatHost): Hosts;
}
