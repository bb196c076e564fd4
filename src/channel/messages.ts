import type { FileIdentity, RequestedAddress } from "../address.js";
import type { Departure } from "../events.js";

/**
 * A message between two generations. It is one packet of the channel: a JSON object in UTF-8; if it has a body, a NUL byte,
 * which JSON cannot contain, and the bytes of the body; at most {@link MAX_SIZE} bytes in all, with descriptors beside it.
 * A socket with a small buffer takes less.
 *
 * The two ends may run different versions of this package. The rule for changes: a field may be added, and its absence
 * must keep the old meaning; a type may be added, and is only sent to a peer whose hello lists its capability; nothing is
 * renamed or removed without a new {@link PROTOCOL}.
 */
export type Message =
  /** First in both directions. */
  | {
      type: "hello";
      protocol: number;
      capabilities: string[];
      version: string;
      pid: number;
      generation: number;
      /** Whether a debugger may stop the sender. */
      inspected?: boolean;
      /** The sender is a supervisor, and the receiver its worker. */
      supervisor?: WorkerPlace;
    }
  /** To the successor: descriptors beside it, in the order of the entries. The last one has `more: false`. */
  | { type: "inventory"; entries: InventoryEntry[]; more: boolean }
  /** To the predecessor: ready. `used`: the names it took from the inventory. The last one before `commit` counts. */
  | { type: "ready"; used: string[]; ticketKeys?: Record<string, string> }
  /**
   * To the successor: accept. Beside it, the channels to generations that still drain. `ticketKeys`, in base64 by the
   * names of listeners, let clients of TLS resume their sessions. Every `fence` of the successor is above this one. A
   * worker acquires its roles only if it is told to: another worker may hold them.
   */
  | {
      type: "commit";
      predecessors: Peer[];
      ticketKeys?: Record<string, string>;
      fence?: number;
      roles?: boolean;
    }
  /** To the predecessor: this process has read the commit, and accepts. Sent by processes whose hello lists `heartbeat`. */
  | { type: "commit-ack" }
  /** To the predecessor, from the acknowledgement until `confirmed`: the event loop turns. To a supervisor: to the end. */
  | { type: "heartbeat"; inspected?: boolean; connections?: number; hosts?: WorkerHosts }
  /**
   * To the successor: its probation is over. From the newest process to draining ones: its probation is over, so the
   * parcels that it took from them stay with it.
   */
  | { type: "confirmed" }
  /** To the successor, instead of `commit`: this was a rehearsal, exit. */
  | { type: "rehearsed" }
  /**
   * To the successor, instead of `commit`: a later upgrade commits it, so it waits for `ttl` ms more. The answer is another
   * `ready`. Sent only to processes whose hello lists `stage`.
   */
  | { type: "stage"; ttl: number }
  /** To the predecessor, until this process is confirmed: an error was not caught here. It may come before the hello. */
  | { type: "uncaught"; message: string; name?: string; code?: string; stack?: string }
  /** Either way during probation: this end stops, which is no reason for a rollback. */
  | { type: "stopping" }
  /** From the newest process to a draining one: asks for `progress`. */
  | { type: "progress-query" }
  /** The answer. `remaining` is in ms. */
  | { type: "progress"; connections: number; remaining: number; moved?: number; drained?: boolean }
  /** Parcels, each with a number of its owner's. Their bodies follow one another in the message's body. */
  | { type: "offer"; parcels: ParcelHead[] }
  /** The owner asks for these parcels back. Each is answered by its settlement. */
  | { type: "withdraw"; numbers: number[] }
  /** The outcomes of parcels. One that was withdrawn has the refusals that were recorded before. */
  | { type: "settle"; results: SettlementResult[] }
  /** The topics that this end takes from now on; with `more`, some of them: the next one has others. */
  | { type: "subscriptions"; topics: Topic[]; more?: boolean }
  /** To the owner: asks for a copy of the oldest parcel that it holds. */
  | { type: "peek"; request: number; topic: Topic }
  /** To the owner: asks whether it holds this parcel, which is then offered next. */
  | { type: "expedite"; request: number; topic: Topic; id: string }
  /** The answer to both. The body is that of the copy. */
  | { type: "answer"; request: number; held: boolean; copy?: ParcelHead }
  /**
   * To the owner of parcels: another process reads now, and settles none of the earlier offers. If the earlier reader is
   * `lost`, so are the parcels that it took and had not confirmed. The acknowledgement has its place among the offers:
   * those before it are void.
   */
  | { type: "reader-changed"; id: string; lost?: boolean; reader?: Peer; topics?: Topic[] }
  | { type: "reader-changed-ack"; id: string }
  /**
   * Either way, as the last message: the sender could not send or receive one. It is sent to every version, as it may
   * follow a hello that was lost; one that does not know it answers to a process that no longer reads.
   */
  | { type: "channel-failed"; reason: string }
  /*
   * Between a supervisor and its workers. Both list `supervised` in their hello.
   */
  /** To the supervisor: asks for the listener of this name and address, which is bound if there is none yet. */
  | {
      type: "open";
      request: number;
      name: string;
      address: RequestedAddress;
      backlog: number;
      mode: number;
      family?: 4 | 6;
    }
  /** The answer: the descriptor beside it; or an error. */
  | { type: "opened"; request: number; entry?: InventoryEntry; code?: string; message?: string }
  /** To the supervisor: the next worker of this index inherits the descriptor beside it, too. */
  | { type: "keep"; entry: InventoryEntry }
  /** To the supervisor: the worker has closed the descriptor of this name. */
  | { type: "release"; name: string }
  /**
   * To a worker: the exchange link to an older or a newer worker, beside it. Parcels go over it; the upgrade itself is the
   * supervisor's.
   */
  | { type: "peer"; side: "successor" | "predecessor"; index: number; generation: number; pid: number }
  /**
   * To a worker: an upgrade is about to be committed, or the worker `leaves` without a next one of its index. It releases its
   * roles, and answers.
   */
  | { type: "yield"; leaves?: true }
  | { type: "yielded"; message?: string }
  /** To a worker: would an upgrade lose something of it? It answers with the reason, if so. */
  | { type: "check" }
  | { type: "checked"; code?: string; message?: string }
  /** To a worker: it stops accepting in this turn, and answers with its last fence. */
  | { type: "cease"; generation: number; pid: number }
  | { type: "ceased"; fence: number }
  /** To a worker that has ceased: its successor accepts. It moves what it has there, and exits. */
  | { type: "retire" }
  /** To a worker after `yield` or `cease`: the upgrade has failed. It accepts again, and answers. */
  | { type: "resume"; roles: boolean; fence: number; code: string; message: string }
  | { type: "resumed" }
  /** To a worker: it holds the roles of the service from now on, or no longer. */
  | { type: "roles"; held: boolean; fence: number }
  /** To the supervisor: this worker could not acquire the roles, and holds none of them. Its last fence was `fence`. */
  | { type: "roles-refused"; message: string; fence: number }
  /** To a worker: it accepts on the descriptor beside it, too, in place of the worker of this index. */
  | { type: "lend"; name: string; index: number }
  | { type: "unlend"; name: string; index: number }
  /**
   * To a worker: the server of the listener with this name, or its only HTTP server, answers the request that comes over the
   * socket beside it. The worker may not accept yet.
   */
  | { type: "probe"; name?: string }
  /**
   * To a worker that goes on serving: it moves up to `count` of its idle connections to the worker at the other end of the
   * exchange link beside it, and answers when that is over.
   */
  | { type: "rebalance"; index: number; generation: number; pid: number; count: number }
  /** To a worker: an upgrade begins, or another operation. It offers no further connection, and answers `rebalance`. */
  | { type: "rebalance-end" }
  | { type: "rebalanced"; moved: number }
  /** To a worker: the service stops. */
  | { type: "stop" }
  /** To the supervisor, as the last message: the worker has drained, and exits. */
  | ({ type: "left" } & Departure)
  /** To the supervisor: an operation of the whole service. */
  | { type: "ask"; request: number; operation: Operation; ttl?: number; force?: boolean }
  /** To the supervisor: the operation of this request is not wanted any longer. */
  | { type: "cancel"; request: number; message: string }
  /** The answer. */
  | { type: "asked"; request: number; result?: Record<string, unknown>; code?: string; message?: string }
  /**
   * To the supervisor: asks for units of a kind, which then run in this worker and in no other. `from` is the PID of a worker
   * that offers them to this one.
   */
  | { type: "own"; request: number; kind: string; ids: string[]; from?: number }
  /** To the supervisor: asks which worker owns a unit. */
  | { type: "where"; request: number; kind: string; id: string }
  /** The answer to both: the fence of each unit that is the asker's, or its owner. To `where`, of no owner: none. */
  | { type: "owned"; request: number; results: (number | WorkerName)[] }
  /** To the supervisor: this worker gives units up. `fences` are those with which it owned them. */
  | { type: "disown"; kind: string; ids: string[]; fences: number[] }
  /** To a worker whose heartbeats have `hosts`: it looks at the engine of the hosts, and answers. */
  | { type: "inspect" }
  | { type: "inspected"; report: Record<string, unknown> }
  /** The answer to a type this version does not know. */
  | { type: "unsupported"; unknown: string };

export type MessageType = Message["type"];

/** The place of a worker in its service. */
export interface WorkerPlace {
  /** Of the worker, from 0. */
  index: number;
  /** Workers of the service. */
  count: number;
  /** Of the service. */
  name: string;
  /** Of the worker. */
  generation: number;
  /** Messages `peer` that follow the inventory. */
  peers: number;
  /** The supervisor's; those of the worker are ignored. */
  limits: ServiceLimits;
  /** The files of the service, which the supervisor owns. */
  pidFile?: string;
  controlSocket?: string;
}

/** Options of `new Upgrader()` that are the service's; two of them in ms. */
interface ServiceLimits {
  probation: number;
  upgradeTimeout: number;
  maxDraining: number;
}

export type Operation = "upgrade" | "rehearse" | "stage" | "unstage" | "stop";

/** The description of a descriptor that the next generation inherits. */
export interface InventoryEntry {
  name: string;
  /** The requested address, to see whether the request is still the same; absent for files and connections. */
  address?: RequestedAddress;
  /** The file of a Unix listener, for its owner to unlink. */
  file?: FileIdentity;
  /**
   * The FileDescriptorName= of a socket that systemd holds as well. Its address cannot be bound by another process, so it
   * is inherited even if it is not used.
   */
  activation?: string;
}

/** A parcel without its body, which has `size` bytes, and its `fds` descriptors. */
export interface ParcelHead {
  number: number;
  kind: string;
  label: string;
  id: string;
  version: number;
  codec: string;
  size: number;
  /** Of the body, in base64. */
  sha256: string;
  fds: number;
  /** The body is in a memory file, the descriptor before the parcel's own. */
  memory?: boolean;
}

export interface SettlementResult {
  number: number;
  how: "taken" | "refused" | "withdrawn";
  refusals?: { code: string; reason?: string }[];
  /** Above those with which the process had it that gives it back. */
  fence?: number;
}

export interface Topic {
  kind: string;
  /** Absent: every label. */
  label?: string;
}

/** A process of this service. */
export interface Peer {
  generation: number;
  pid: number;
}

/** The part of a worker in a service on several hosts. */
export interface WorkerHosts {
  readonly engine: string;
  readonly service: string;
  readonly seat: string;
  /** `none` before the process accepts; `lost` while its lease has ended and it has no new one. */
  readonly lease: "none" | "held" | "lost";
  /** ms until the lease ends, unless it is renewed. */
  readonly remaining: number;
  /** The number of other processes. */
  readonly peers: number;
  /** Parcels of this process that are offered and not settled; and those that it has left in the engine. */
  readonly offered: number;
  readonly parked: number;
}

/** A process of a worker. */
export interface WorkerName extends Peer {
  index: number;
}

export const PROTOCOL = 1;

/** Bytes; well below the limit of a socket for one packet. */
export const MAX_SIZE = 128 * 1024;

/** Bytes to which a message of several parts is filled, with room for its own fields, if `maxSize` are possible. */
export function filledSize(maxSize: number): number {
  return (maxSize * 7) / 8;
}

/** Entries in one inventory message. */
export const ENTRIES_PER_MESSAGE = 40;
