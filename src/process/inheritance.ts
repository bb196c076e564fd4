import { fstatSync } from "node:fs";
import { Channel } from "../channel/channel.js";
import {
  ENTRIES_PER_MESSAGE,
  filledSize,
  PROTOCOL,
  type InventoryEntry,
  type Message,
  type WorkerPlace,
} from "../channel/messages.js";
import { HandoverError } from "../errors.js";
import type { FencingTokens } from "../exchange/fencing.js";
import { native } from "../platform/native.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { batches } from "../util/batches.js";
import { VERSION } from "../util/version.js";
import { CHANNEL_VARIABLE } from "./channel-variable.js";
import { isInspected } from "./inspector.js";
import { Predecessor } from "./predecessor.js";
import { SupervisorLink } from "./supervisor-link.js";
import { stopReporting } from "./uncaught-error.js";

/** What a successor inherits. */
interface Inheritance {
  /** The process that it replaces; undefined in a worker. */
  predecessor: Predecessor | undefined;
  /** The supervisor of a worker. */
  supervisor: SupervisorLink | undefined;
  /** The workers that a worker replaces: parcels come from them. */
  peers: Predecessor[];
  /** The number of this process. */
  generation: number;
  items: InventoryItem[];
}

/**
 * Reads the inheritance from the channel, and blocks until it is complete. Undefined if the predecessor is not to be trusted.
 *
 * @param variable the value of {@link CHANNEL_VARIABLE}
 * @param pid of this process
 * @param timeout in ms
 * @param fences of this process; they continue from the predecessor's
 * @throws {HandoverError} `ERR_CHANNEL`, `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_DESCRIPTOR`
 */
export function readInheritance(
  variable: string,
  pid: number,
  timeout: number,
  fences: FencingTokens,
): Inheritance | undefined {
  const fd = verifyChannel(variable);
  if (fd === undefined) return undefined;
  const channel = new Channel(fd);
  const deadline = performance.now() + timeout;
  const hello = channel.readBlocking(deadline)?.message;
  if (hello?.type !== "hello") {
    throw new HandoverError("ERR_PROTOCOL", "cannot take over: the predecessor did not say hello");
  }
  const place = hello.supervisor;
  const generation = place?.generation ?? hello.generation + 1;
  sendOrThrow(channel, { ...greeting(generation, pid), inspected: isInspected() });
  const items = readItems(channel, deadline);
  if (place === undefined) {
    const predecessor = new Predecessor(channel, hello, fences);
    return { predecessor, supervisor: undefined, peers: [], generation, items };
  }
  const peers = readPeers(channel, place.peers, deadline, fences);
  const supervisor = new SupervisorLink(channel, hello.pid, place, items);
  return { predecessor: undefined, supervisor, peers, generation, items };
}

/** What a process gives to one that it starts. */
export interface Legacy {
  /** Of the process that gives it. */
  readonly generation: number;
  readonly items: readonly InventoryItem[];
  /** The place of a worker, if it is its supervisor that starts it. */
  readonly place?: Omit<WorkerPlace, "peers">;
  /** The exchange links to the workers that it replaces. */
  readonly peers?: readonly (Message & { type: "peer" } & { fd: number })[];
}

/**
 * Queues the whole inheritance of a successor.
 *
 * @throws {HandoverError} `ERR_CHANNEL`, `ERR_DESCRIPTOR`, `ERR_PROTOCOL`
 */
export function sendInheritance(
  channel: Channel,
  pid: number,
  { generation, items, place, peers = [] }: Legacy,
): void {
  const supervisor = place === undefined ? {} : { supervisor: { ...place, peers: peers.length } };
  sendOrThrow(channel, { ...greeting(generation, pid), ...supervisor });
  const limits = [ENTRIES_PER_MESSAGE, filledSize(channel.maxSize)];
  const messages = batches(items, limits, (item) => [
    1,
    Buffer.byteLength(JSON.stringify(entryOf(item))) + 1,
  ]);
  const last = messages.pop() ?? [];
  const send = (some: readonly InventoryItem[], more: boolean): void =>
    sendOrThrow(
      channel,
      { type: "inventory", entries: some.map(entryOf), more },
      some.map(({ fd }) => fd),
    );
  for (const some of messages) send(some, true);
  send(last, false);
  for (const { fd, ...peer } of peers) sendOrThrow(channel, peer, [fd]);
}

function entryOf({ fd: _, ...entry }: InventoryItem): InventoryEntry {
  return entry;
}

/** A process that lacks one of the first messages would wait for it until its time is over. */
function sendOrThrow(channel: Channel, ...message: Parameters<Channel["send"]>): void {
  channel.send(...message);
  if (channel.failure !== undefined) throw channel.failure;
}

/** The environment of a successor, whose descriptor 3 will be `channel`. */
export function withChannel(env: NodeJS.ProcessEnv, channel: number): NodeJS.ProcessEnv {
  const inode = fstatSync(channel, { bigint: true }).ino;
  return { ...env, [CHANNEL_VARIABLE]: `3:${inode}` };
}

/** What this version can do, for its peer. */
const PARCELS_CAPABILITY = "parcels";
/** To acknowledge the commit, and to send heartbeats from then on until it is confirmed. */
export const HEARTBEAT_CAPABILITY = "heartbeat";
/** To wait for a later upgrade, after `ready`. */
export const STAGE_CAPABILITY = "stage";
/** To be a worker. */
export const SUPERVISED_CAPABILITY = "supervised";

/** The first message of either end. */
function greeting(generation: number, pid: number): Message & { type: "hello" } {
  return {
    type: "hello",
    protocol: PROTOCOL,
    capabilities: [PARCELS_CAPABILITY, HEARTBEAT_CAPABILITY, STAGE_CAPABILITY, SUPERVISED_CAPABILITY],
    version: VERSION,
    pid,
    generation,
  };
}

/** A predecessor that died while it was sending no longer holds the rest, which can be bound afresh. */
function readItems(channel: Channel, deadline: number): InventoryItem[] {
  const items: InventoryItem[] = [];
  for (;;) {
    const next = channel.readBlocking(deadline);
    if (next === undefined) return items;
    const { message, fds } = next;
    if (message.type !== "inventory" || message.entries.length !== fds.length) {
      throw new HandoverError(
        "ERR_PROTOCOL",
        `cannot take over: the predecessor sent ${message.type}, not its inventory`,
      );
    }
    items.push(...message.entries.map((entry, n) => ({ ...entry, fd: fds[n]! })));
    if (!message.more) return items;
  }
}

/** A supervisor that died while it was sending is noticed later. */
function readPeers(channel: Channel, count: number, deadline: number, fences: FencingTokens): Predecessor[] {
  const peers: Predecessor[] = [];
  while (peers.length < count) {
    const next = channel.readBlocking(deadline);
    if (next === undefined) break;
    const { message, fds } = next;
    if (message.type !== "peer" || fds.length !== 1) {
      throw new HandoverError(
        "ERR_PROTOCOL",
        `cannot take over: the supervisor sent ${message.type}, not the links to the workers before`,
      );
    }
    peers.push(new Predecessor(new Channel(fds[0]!), message, fences));
  }
  return peers;
}

/** The descriptor, if it is the socket that the variable names, and the same user is at its other end. */
function verifyChannel(value: string): number | undefined {
  const [, fd, inode] = /^(\d{1,9}):(\d{1,18})$/.exec(value) ?? [];
  const why = fd === undefined ? "it is not a descriptor and an inode" : whyUntrusted(Number(fd), inode!);
  if (why === undefined) return Number(fd);
  stopReporting();
  process.emitWarning(`${CHANNEL_VARIABLE}=${value} is ignored, so this process has no predecessor: ${why}`, {
    code: "HANDOVER_NO_PARENT",
  });
  return undefined;
}

function whyUntrusted(fd: number, inode: string): string | undefined {
  try {
    const stat = fstatSync(fd, { bigint: true });
    if (!stat.isSocket() || String(stat.ino) !== inode) return `descriptor ${fd} is something else`;
  } catch {
    return `descriptor ${fd} is not open`;
  }
  const peer = native().peerCredentials(fd);
  if (typeof peer === "number") return `the process at the other end of descriptor ${fd} is unknown`;
  if (peer.uid === 0 || peer.uid === process.geteuid?.()) return undefined;
  return `the process at its other end belongs to user ${peer.uid}`;
}
