import type { MessageType } from "./messages.js";

/** Whether a value is what a field should have. */
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
  activation: optional(isString),
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
export const SHAPES: Record<MessageType, Record<string, Fits>> = {
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

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
