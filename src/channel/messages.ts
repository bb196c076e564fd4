import { HandoverError } from "../errors.js";

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
    }
  /** Parent to child: descriptors beside it, in the order of the entries. The last one has `more: false`. */
  | { type: "inventory"; entries: Entry[]; more: boolean }
  /** Child to parent: initialised; `used` are the names it took from the inventory. */
  | { type: "ready"; used: string[] }
  /**
   * Parent to child: accept. Beside it, the channels to generations that still drain. `ticketKeys`, in base64 by the
   * names of listeners, let clients of TLS resume their sessions. Every `fence` of the child is above this one.
   */
  | { type: "go"; older: OlderGeneration[]; ticketKeys?: Record<string, string>; fence?: number }
  /** Parent to child: probation is over. Newest to older: its own is, so that what it took from there is its own. */
  | { type: "kept" }
  /** Parent to child, instead of go: this was a rehearsal, end. */
  | { type: "rehearsed" }
  /** Either way during probation: this end is stopping, which is no reason for a rollback. */
  | { type: "stopping" }
  /** Newest to older: how is the drain going? */
  | { type: "inquire" }
  /** Older to newest: so. `remaining` is in ms. */
  | { type: "report"; connections: number; remaining: number; handedOver?: number }
  /** Parcels, each with a number of its owner's. The body is theirs, one after the other. */
  | { type: "offer"; parcels: ParcelHead[] }
  /** The owner wants these back. Each is answered by its settlement, whatever that has become meanwhile. */
  | { type: "withdraw"; numbers: number[] }
  /** What became of parcels. Of one that was withdrawn, the refusals of those who might have taken it. */
  | { type: "settle"; results: Result[] }
  /** What this end takes, from now on. */
  | { type: "serves"; topics: Topic[] }
  /** To the owner: a copy of the oldest parcel that it holds. */
  | { type: "peek"; request: number; topic: Topic }
  /** To the owner: is this one yours? It leaves next, then. */
  | { type: "claim"; request: number; topic: Topic; id: string }
  /** The answer to both. The body is that of the copy. */
  | { type: "answer"; request: number; held: boolean; copy?: ParcelHead }
  /**
   * To the one that offers: somebody else reads now, what is not settled yet never will be; nor is what was taken and
   * not kept, if the one that read before is `lost`. Comes back as `restarted` in its place among the offers, of which
   * those before it are void.
   */
  | { type: "restart"; id: string; lost?: boolean; reader?: OlderGeneration; topics?: Topic[] }
  | { type: "restarted"; id: string }
  /** The answer to a type this version does not know. */
  | { type: "unsupported"; unknown: string };

export type MessageType = Message["type"];

/** What the next generation is told of a descriptor. */
export interface Entry {
  name: string;
  /** What was asked for, to see whether it is still the same; absent for files and connections. */
  address?: RequestedAddress;
  /** The file of a Unix listener, for its owner to unlink. */
  file?: FileIdentity;
}

/** A file, and how to tell that it is still the same. The numbers have 64 bits, which JSON's do not. */
export interface FileIdentity {
  path: string;
  dev: string;
  ino: string;
}

/** What was asked for, before a name was looked up and a port chosen. The host `*` is every address. */
export type RequestedAddress =
  { kind: "tcp" | "udp"; host: string; port: number; ipv6Only: boolean } | { kind: "unix"; path: string };

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

export interface Result {
  number: number;
  how: "taken" | "refused" | "withdrawn";
  refusals?: { code: string; reason?: string }[];
}

export interface Topic {
  kind: string;
  /** Absent: whatever its label is. */
  label?: string;
}

export interface OlderGeneration {
  generation: number;
  pid: number;
}

export const PROTOCOL = 1;

/** Bytes; well below what a socket takes in one packet. */
export const MAX_SIZE = 128 * 1024;

/** Entries in one inventory message: with the longest names and paths they stay below {@link MAX_SIZE}. */
export const ENTRIES_PER_MESSAGE = 40;

export function encode(message: Message, body?: Uint8Array): Uint8Array {
  const head = Buffer.from(JSON.stringify(message));
  const bytes = body === undefined ? head : Buffer.concat([head, SEPARATOR, body]);
  if (bytes.length > MAX_SIZE) {
    throw new HandoverError(
      "ERR_PROTOCOL",
      `cannot send ${message.type}: ${bytes.length} bytes, at most ${MAX_SIZE}`,
    );
  }
  return bytes;
}

/**
 * Reads one packet but its body. What has an unknown type comes back with its name, for the answer.
 *
 * @throws {HandoverError} `ERR_PROTOCOL` for what no version of this package would send.
 */
export function decode(packet: Uint8Array): Message | { type: "unknown"; name: string } {
  if (packet.length > MAX_SIZE) throw nonsense(`${packet.length} bytes, at most ${MAX_SIZE}`);
  const end = packet.indexOf(0);
  const value = parse(end < 0 ? packet : packet.subarray(0, end));
  if (!isRecord(value) || typeof value["type"] !== "string") throw nonsense("not an object with a type");
  const type = value["type"];
  if (!Object.hasOwn(SHAPES, type)) return { type: "unknown", name: type.slice(0, 64) };
  for (const [field, fits] of Object.entries(SHAPES[type as MessageType])) {
    if (!fits(value[field])) throw nonsense(`a ${type} message without a proper "${field}"`);
  }
  return value as Message;
}

/** A copy of a packet's body; empty where there is none. */
export function bodyOf(packet: Uint8Array): Uint8Array {
  const end = packet.indexOf(0);
  return end < 0 ? new Uint8Array() : packet.slice(end + 1);
}

const SEPARATOR = new Uint8Array(1);

type Fits = (value: unknown) => boolean;

const isString: Fits = (value) => typeof value === "string";
const isCount: Fits = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isBoolean: Fits = (value) => typeof value === "boolean";
const optional =
  (fits: Fits): Fits =>
  (value) =>
    value === undefined || fits(value);
const listOf =
  (fits: Fits): Fits =>
  (value) =>
    Array.isArray(value) && value.every(fits);
const record =
  (shape: Record<string, Fits>): Fits =>
  (value) =>
    isRecord(value) && Object.entries(shape).every(([field, fits]) => fits(value[field]));

const isInet = record({ kind: isString, host: isString, port: isCount, ipv6Only: isBoolean });
const isUnix = record({ kind: isString, path: isString });
const isAddress: Fits = (value) =>
  isRecord(value) && (value["kind"] === "unix" ? isUnix(value) : INET.has(value["kind"]) && isInet(value));
const INET = new Set<unknown>(["tcp", "udp"]);
const isEntry = record({
  name: isString,
  address: optional(isAddress),
  file: optional(record({ path: isString, dev: isString, ino: isString })),
});

const isParcel = record({
  number: isCount,
  kind: isString,
  label: isString,
  id: isString,
  version: isCount,
  codec: isString,
  size: isCount,
  sha256: isString,
  fds: isCount,
  memory: optional(isBoolean),
});
const HOW = new Set<unknown>(["taken", "refused", "withdrawn"]);
const isResult = record({
  number: isCount,
  how: (value) => HOW.has(value),
  refusals: optional(listOf(record({ code: isString, reason: optional(isString) }))),
});
const isTopic = record({ kind: isString, label: optional(isString) });
const isGeneration = record({ generation: isCount, pid: isCount });

/** The fields each type must have. Others are ignored, so that a newer peer may add some. */
const SHAPES: Record<MessageType, Record<string, Fits>> = {
  hello: {
    protocol: isCount,
    capabilities: listOf(isString),
    version: isString,
    pid: isCount,
    generation: isCount,
  },
  inventory: { entries: listOf(isEntry), more: isBoolean },
  ready: { used: listOf(isString) },
  go: {
    older: listOf(isGeneration),
    ticketKeys: optional((value) => isRecord(value) && Object.values(value).every(isString)),
    fence: optional(isCount),
  },
  kept: {},
  rehearsed: {},
  stopping: {},
  inquire: {},
  report: { connections: isCount, remaining: isCount, handedOver: optional(isCount) },
  offer: { parcels: listOf(isParcel) },
  withdraw: { numbers: listOf(isCount) },
  settle: { results: listOf(isResult) },
  serves: { topics: listOf(isTopic) },
  peek: { request: isCount, topic: isTopic },
  claim: { request: isCount, topic: isTopic, id: isString },
  answer: { request: isCount, held: isBoolean, copy: optional(isParcel) },
  restart: {
    id: isString,
    lost: optional(isBoolean),
    reader: optional(isGeneration),
    topics: optional(listOf(isTopic)),
  },
  restarted: { id: isString },
  unsupported: { unknown: isString },
};

function parse(packet: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(packet));
  } catch (cause) {
    throw nonsense("not JSON in UTF-8", cause);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function nonsense(why: string, cause?: unknown): HandoverError {
  return new HandoverError("ERR_PROTOCOL", `cannot understand a message of the other process: ${why}`, {
    cause,
  });
}
