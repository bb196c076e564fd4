import { fstatSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { Channel } from "../channel/channel.js";
import { PROTOCOL, type Message } from "../channel/messages.js";
import { HandoverError } from "../errors.js";
import type { FencingTokens } from "../exchange/fencing.js";
import { native } from "../platform/native.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { VERSION } from "../util/version.js";
import { Predecessor } from "./predecessor.js";

/** What a successor starts with. */
interface Inheritance {
  predecessor: Predecessor;
  /** Of this process. */
  generation: number;
  items: InventoryItem[];
}

/** Names the descriptor of the channel and its inode: `3:12345`. */
export const CHANNEL_VARIABLE = "HANDOVER_CHANNEL";

/** Taken out of the environment at once: programs that this one starts are no successors. */
const variable = takeVariable();

/**
 * Reads what the parent hands on, blocking; undefined in a process that has no parent.
 *
 * @param timeout in ms
 * @param fences of this process, which go on from the parent's
 * @throws {HandoverError} `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_DESCRIPTOR`
 */
export function readInheritance(timeout: number, fences: FencingTokens): Inheritance | undefined {
  const fd = variable === undefined ? undefined : verifyChannel(variable);
  if (fd === undefined) return undefined;
  const channel = new Channel(fd);
  const deadline = performance.now() + timeout;
  const hello = channel.readBlocking(deadline)?.message;
  if (hello?.type !== "hello") {
    throw new HandoverError("ERR_PROTOCOL", "cannot take over: the parent did not say hello");
  }
  const generation = hello.generation + 1;
  channel.send(greeting(generation));
  const items = readItems(channel, deadline);
  return { predecessor: new Predecessor(channel, hello, fences), generation, items };
}

/** The capability to take parcels. */
const PARCELS_CAPABILITY = "parcels";

/** The first message of either end. */
export function greeting(generation: number): Message {
  return {
    type: "hello",
    protocol: PROTOCOL,
    capabilities: [PARCELS_CAPABILITY],
    version: VERSION,
    pid: process.pid,
    generation,
  };
}

/** A parent that died while it was sending has left the rest to be bound afresh: nobody holds it any more. */
function readItems(channel: Channel, deadline: number): InventoryItem[] {
  const items: InventoryItem[] = [];
  for (;;) {
    const next = channel.readBlocking(deadline);
    if (next === undefined) return items;
    const { message, fds } = next;
    if (message.type !== "inventory" || message.entries.length !== fds.length) {
      throw new HandoverError(
        "ERR_PROTOCOL",
        `cannot take over: the parent sent ${message.type}, not its inventory`,
      );
    }
    items.push(...message.entries.map((entry, n) => ({ ...entry, fd: fds[n]! })));
    if (!message.more) return items;
  }
}

function takeVariable(): string | undefined {
  if (!isMainThread) return undefined;
  const value = process.env[CHANNEL_VARIABLE];
  delete process.env[CHANNEL_VARIABLE];
  return value;
}

/** The descriptor, if it is the socket that the variable speaks of, and the same user is at its other end. */
function verifyChannel(value: string): number | undefined {
  const [, fd, inode] = /^(\d{1,9}):(\d{1,18})$/.exec(value) ?? [];
  const why = fd === undefined ? "it makes no sense" : whyUntrusted(Number(fd), inode!);
  if (why === undefined) return Number(fd);
  process.emitWarning(`${CHANNEL_VARIABLE}=${value} is not believed, so this process has no parent: ${why}`, {
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
  if (typeof peer === "number") return `nobody is known to be at the other end of descriptor ${fd}`;
  if (peer.uid === 0 || peer.uid === process.geteuid?.()) return undefined;
  return `user ${peer.uid} is at its other end`;
}
