import { HandoverError } from "../errors.js";
import { MAX_SIZE, type Message, type MessageType } from "./messages.js";

/**
 * @param maxSize of the packet, in bytes
 * @throws {HandoverError} `ERR_PROTOCOL` if it is larger
 */
export function encode(message: Message, body?: Uint8Array, maxSize = MAX_SIZE): Uint8Array {
  const head = Buffer.from(JSON.stringify(message));
  const bytes = body === undefined ? head : Buffer.concat([head, SEPARATOR, body]);
  if (bytes.length > maxSize) {
    const why = maxSize < MAX_SIZE ? ", because the socket's buffer is small (net.core.wmem_max)" : "";
    throw new HandoverError(
      "ERR_PROTOCOL",
      `cannot send ${message.type}: ${bytes.length} bytes, at most ${maxSize}${why}`,
    );
  }
  return bytes;
}

/**
 * Reads one packet without its body. For an unknown type it returns the name, for the answer.
 *
 * @throws {HandoverError} `ERR_PROTOCOL` for a packet that no version of this package would send
 */
export function decode(packet: Uint8Array): Message | { type: "unknown"; name: string } {
  if (packet.length > MAX_SIZE) throw protocolError(`${packet.length} bytes, at most ${MAX_SIZE}`);
  const end = packet.indexOf(0);
  const value = parse(end < 0 ? packet : packet.subarray(0, end));
  if (!isRecord(value) || typeof value["type"] !== "string") throw protocolError("not an object with a type");
  const type = value["type"];
  if (!Object.hasOwn(MESSAGE_SCHEMAS, type)) return { type: "unknown", name: type.slice(0, 64) };
  for (const [field, fits] of Object.entries(MESSAGE_SCHEMAS[type as MessageType])) {
    if (!fits(value[field])) throw protocolError(`a ${type} message without a proper "${field}"`);
  }
  return value as Message;
}

/** A copy of a packet's body. A packet without a body gives an empty one. */
export function bodyOf(packet: Uint8Array): Uint8Array {
  const end = packet.indexOf(0);
  return end < 0 ? new Uint8Array() : packet.slice(end + 1);
}

const SEPARATOR = new Uint8Array(1);

function parse(packet: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(packet));
  } catch (cause) {
    throw protocolError("not JSON in UTF-8", cause);
  }
}

function protocolError(why: string, cause?: unknown): HandoverError {
  return new HandoverError("ERR_PROTOCOL", `cannot understand a message of the other process: ${why}`, {
    cause,
  });
}

/** Whether a value is what a field should have. */
type Validator = (value: unknown) => boolean;

const isString: Validator = (value) => typeof value === "string";
const isCount: Validator = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isBoolean: Validator = (value) => typeof value === "boolean";
const optional =
  (fits: Validator): Validator =>
  (value) =>
    value === undefined || fits(value);
const listOf =
  (fits: Validator): Validator =>
  (value) =>
    Array.isArray(value) && value.every(fits);
/** A loop over two lists: there are nine fields of each of thousands of connections. */
const record = (shape: Record<string, Validator>): Validator => {
  const fields = Object.keys(shape);
  const validators = Object.values(shape);
  return (value) => {
    if (!isRecord(value)) return false;
    for (let n = 0; n < fields.length; n++) if (!validators[n]!(value[fields[n]!])) return false;
    return true;
  };
};

const isInet = record({ kind: isString, host: isString, port: isCount, ipv6Only: isBoolean });
const isUnix = record({ kind: isString, path: isString });
const isAddress: Validator = (value) =>
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
  fence: optional(isCount),
});
const isTopic = record({ kind: isString, label: optional(isString) });
const isTicketKeys: Validator = (value) => isRecord(value) && Object.values(value).every(isString);
const OPERATIONS = new Set<unknown>(["upgrade", "rehearse", "stage", "unstage", "stop"]);
const SIDES = new Set<unknown>(["successor", "predecessor"]);
const isGeneration = record({ generation: isCount, pid: isCount });
const LEASES = new Set<unknown>(["none", "held", "lost"]);
const isHosts = record({
  engine: isString,
  service: isString,
  seat: isString,
  lease: (value) => LEASES.has(value),
  remaining: isCount,
  peers: isCount,
  offered: isCount,
  parked: isCount,
});
const isOwner = record({ index: isCount, generation: isCount, pid: isCount });

/** The fields that each type must have. Others are ignored, so that a newer peer may add some. */
const MESSAGE_SCHEMAS: Record<MessageType, Record<string, Validator>> = {
  hello: {
    protocol: isCount,
    capabilities: listOf(isString),
    version: isString,
    pid: isCount,
    generation: isCount,
    inspected: optional(isBoolean),
    supervisor: optional(
      record({
        index: isCount,
        count: isCount,
        name: isString,
        generation: isCount,
        peers: isCount,
        limits: record({ probation: isCount, upgradeTimeout: isCount, maxDraining: isCount }),
        pidFile: optional(isString),
        controlSocket: optional(isString),
      }),
    ),
  },
  inventory: { entries: listOf(isEntry), more: isBoolean },
  ready: {
    used: listOf(isString),
    ticketKeys: optional(isTicketKeys),
  },
  commit: {
    predecessors: listOf(isGeneration),
    ticketKeys: optional(isTicketKeys),
    fence: optional(isCount),
    roles: optional(isBoolean),
  },
  "commit-ack": {},
  heartbeat: { inspected: optional(isBoolean), connections: optional(isCount), hosts: optional(isHosts) },
  confirmed: {},
  rehearsed: {},
  stage: { ttl: isCount },
  uncaught: {
    message: isString,
    name: optional(isString),
    code: optional(isString),
    stack: optional(isString),
  },
  stopping: {},
  "progress-query": {},
  progress: {
    connections: isCount,
    remaining: isCount,
    moved: optional(isCount),
    drained: optional(isBoolean),
  },
  offer: { parcels: listOf(isParcel) },
  withdraw: { numbers: listOf(isCount) },
  settle: { results: listOf(isResult) },
  subscriptions: { topics: listOf(isTopic), more: optional(isBoolean) },
  peek: { request: isCount, topic: isTopic },
  expedite: { request: isCount, topic: isTopic, id: isString },
  answer: { request: isCount, held: isBoolean, copy: optional(isParcel) },
  "reader-changed": {
    id: isString,
    lost: optional(isBoolean),
    reader: optional(isGeneration),
    topics: optional(listOf(isTopic)),
  },
  "reader-changed-ack": { id: isString },
  "channel-failed": { reason: isString },
  open: {
    request: isCount,
    name: isString,
    address: isAddress,
    backlog: isCount,
    mode: Number.isSafeInteger,
    family: optional((value) => value === 4 || value === 6),
  },
  opened: {
    request: isCount,
    entry: optional(isEntry),
    code: optional(isString),
    message: optional(isString),
  },
  keep: { entry: isEntry },
  release: { name: isString },
  left: {
    connections: isCount,
    summary: record({
      moved: isCount,
      stayed: isRecord,
      destroyed: isCount,
      unsettled: isCount,
      units: isRecord,
    }),
  },
  peer: { side: (value) => SIDES.has(value), index: isCount, generation: isCount, pid: isCount },
  yield: { leaves: optional(isBoolean) },
  yielded: { message: optional(isString) },
  check: {},
  checked: { code: optional(isString), message: optional(isString) },
  cease: { generation: isCount, pid: isCount },
  ceased: { fence: isCount },
  retire: {},
  resume: { roles: isBoolean, fence: isCount, code: isString, message: isString },
  resumed: {},
  roles: { held: isBoolean, fence: isCount },
  "roles-refused": { message: isString, fence: isCount },
  lend: { name: isString, index: isCount },
  unlend: { name: isString, index: isCount },
  probe: { name: optional(isString) },
  inspect: {},
  inspected: { report: isRecord },
  rebalance: { index: isCount, generation: isCount, pid: isCount, count: isCount },
  "rebalance-end": {},
  rebalanced: { moved: isCount },
  stop: {},
  ask: {
    request: isCount,
    operation: (value) => OPERATIONS.has(value),
    ttl: optional(isCount),
    force: optional(isBoolean),
  },
  cancel: { request: isCount, message: isString },
  asked: {
    request: isCount,
    result: optional(isRecord),
    code: optional(isString),
    message: optional(isString),
  },
  own: { request: isCount, kind: isString, ids: listOf(isString), from: optional(isCount) },
  where: { request: isCount, kind: isString, id: isString },
  owned: { request: isCount, results: listOf((value) => isCount(value) || isOwner(value)) },
  disown: { kind: isString, ids: listOf(isString), fences: listOf(isCount) },
  unsupported: { unknown: isString },
};

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
