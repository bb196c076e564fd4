import type { FileIdentity, RequestedAddress } from "../address.js";

/**
 * What passes between two generations. One message is one packet of the channel: a JSON object in UTF-8, and
 * where there is a body a NUL byte, which JSON cannot contain, and the body's bytes; at most {@link MAX_SIZE} bytes
 * in all, with descriptors beside it.
 *
 * The two ends may run different versions of this package. The rule for changes: a field may be added, and
 * its absence must keep the old meaning; a type may be added, and is only sent to a peer whose hello lists
 * its capability; nothing is renamed or removed without a new {@link PROTOCOL}.
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
    }
  /** Parent to child: descriptors beside it, in the order of the entries. The last one has `more: false`. */
  | { type: "inventory"; entries: InventoryEntry[]; more: boolean }
  /** Child to parent: initialised; `used` are the names it took from the inventory. The last one before go counts. */
  | { type: "ready"; used: string[] }
  /**
   * Parent to child: accept. Beside it, the channels to generations that still drain. `ticketKeys`, in base64 by the
   * names of listeners, let clients of TLS resume their sessions. Every `fence` of the child is above this one.
   */
  | { type: "commit"; predecessors: Peer[]; ticketKeys?: Record<string, string>; fence?: number }
  /** Successor to predecessor: it has read the commit, and accepts. Sent by those whose hello lists `heartbeat`. */
  | { type: "commit-ack" }
  /** Successor to predecessor, from the acknowledgement until it is confirmed: its event loop turns. */
  | { type: "heartbeat"; inspected?: boolean }
  /** Parent to child: probation is over. Newest to predecessors: its own is, so that what it took from there is its own. */
  | { type: "confirmed" }
  /** Parent to child, instead of go: this was a rehearsal, end. */
  | { type: "rehearsed" }
  /** Either way during probation: this end is stopping, which is no reason for a rollback. */
  | { type: "stopping" }
  /** Newest to predecessors: how is the drain going? */
  | { type: "progress-query" }
  /** Older to newest: so. `remaining` is in ms. */
  | { type: "progress"; connections: number; remaining: number; moved?: number }
  /** Parcels, each with a number of its owner's. The body is theirs, one after the other. */
  | { type: "offer"; parcels: ParcelHead[] }
  /** The owner wants these back. Each is answered by its settlement, whatever that has become meanwhile. */
  | { type: "withdraw"; numbers: number[] }
  /** What became of parcels. Of one that was withdrawn, the refusals of those who might have taken it. */
  | { type: "settle"; results: SettlementResult[] }
  /** What this end takes, from now on. */
  | { type: "subscriptions"; topics: Topic[] }
  /** To the owner: a copy of the oldest parcel that it holds. */
  | { type: "peek"; request: number; topic: Topic }
  /** To the owner: is this one yours? It leaves next, then. */
  | { type: "expedite"; request: number; topic: Topic; id: string }
  /** The answer to both. The body is that of the copy. */
  | { type: "answer"; request: number; held: boolean; copy?: ParcelHead }
  /**
   * To the one that offers: somebody else reads now, what is not settled yet never will be; nor is what was taken and
   * not kept, if the one that read before is `lost`. Comes back as `restarted` in its place among the offers, of which
   * those before it are void.
   */
  | { type: "reader-changed"; id: string; lost?: boolean; reader?: Peer; topics?: Topic[] }
  | { type: "reader-changed-ack"; id: string }
  /** The answer to a type this version does not know. */
  | { type: "unsupported"; unknown: string };

export type MessageType = Message["type"];

/** What the next generation is told of a descriptor. */
export interface InventoryEntry {
  name: string;
  /** What was asked for, to see whether it is still the same; absent for files and connections. */
  address?: RequestedAddress;
  /** The file of a Unix listener, for its owner to unlink. */
  file?: FileIdentity;
  /**
   * The FileDescriptorName= of a socket that systemd holds as well: nobody else can bind its address, so it is handed
   * on even while it is not used.
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
  /** The body is not in the message, but in a memory file: the descriptor before the parcel's own. */
  memory?: boolean;
}

export interface SettlementResult {
  number: number;
  how: "taken" | "refused" | "withdrawn";
  refusals?: { code: string; reason?: string }[];
}

export interface Topic {
  kind: string;
  /** Absent: whatever its label is. */
  label?: string;
}

/** A process of this service. */
export interface Peer {
  generation: number;
  pid: number;
}

export const PROTOCOL = 1;

/** Bytes; well below what a socket takes in one packet. */
export const MAX_SIZE = 128 * 1024;

/** Bytes to which a message of several parcels or results is filled: {@link MAX_SIZE}, with room for its own fields. */
export const FILLED_SIZE = 112 * 1024;

/** Entries in one inventory message: with the longest names and paths they stay below {@link MAX_SIZE}. */
export const ENTRIES_PER_MESSAGE = 40;
