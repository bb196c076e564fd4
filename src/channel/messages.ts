import { HandoverError } from "../errors.js";
import type { Entry } from "../sockets/inventory.js";

/**
 * What passes between two generations. One message is one packet of the channel: a JSON object in UTF-8, at
 * most {@link MAX_SIZE} bytes, with descriptors beside it.
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
  /** Parent to child: accept. Beside it, the channels to generations that still drain. */
  | { type: "go"; older: OlderGeneration[] }
  /** Parent to child: probation is over. */
  | { type: "kept" }
  /** Either way during probation: this end is stopping, which is no reason for a rollback. */
  | { type: "stopping" }
  /** Newest to older: how is the drain going? */
  | { type: "inquire" }
  /** Older to newest: so. `remaining` is in ms. */
  | { type: "report"; connections: number; remaining: number }
  /** The answer to a type this version does not know. */
  | { type: "unsupported"; unknown: string };

export type MessageType = Message["type"];

export interface OlderGeneration {
  generation: number;
  pid: number;
}

export const PROTOCOL = 1;

/** Bytes; well below what a socket takes in one packet. */
export const MAX_SIZE = 128 * 1024;

/** Entries in one inventory message: with the longest names and paths they stay below {@link MAX_SIZE}. */
export const ENTRIES_PER_MESSAGE = 40;

export function encode(message: Message): Uint8Array {
  const bytes = Buffer.from(JSON.stringify(message));
  if (bytes.length > MAX_SIZE) {
    throw new HandoverError(
      "ERR_PROTOCOL",
      `cannot send ${message.type}: ${bytes.length} bytes, at most ${MAX_SIZE}`,
    );
  }
  return bytes;
}

/**
 * Reads one packet. What has an unknown type comes back as `{ type: "unsupported" }`, for the answer.
 *
 * @throws {HandoverError} `ERR_PROTOCOL` for what no version of this package would send.
 */
export function decode(packet: Uint8Array): Message | { type: "unknown"; name: string } {
  if (packet.length > MAX_SIZE) throw nonsense(`${packet.length} bytes, at most ${MAX_SIZE}`);
  const value = parse(packet);
  if (!isRecord(value) || typeof value["type"] !== "string") throw nonsense("not an object with a type");
  const type = value["type"];
  if (!Object.hasOwn(SHAPES, type)) return { type: "unknown", name: type.slice(0, 64) };
  for (const [field, fits] of Object.entries(SHAPES[type as MessageType])) {
    if (!fits(value[field])) throw nonsense(`a ${type} message without a proper "${field}"`);
  }
  return value as Message;
}

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
  go: { older: listOf(record({ generation: isCount, pid: isCount })) },
  kept: {},
  stopping: {},
  inquire: {},
  report: { connections: isCount, remaining: isCount },
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
