import { fstatSync } from "node:fs";
import { native } from "../platform/native.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { isReserved } from "../util/validation.js";
import type { Notifier } from "./notify.js";

/**
 * The listeners of this service in systemd's descriptor store, if FileDescriptorStoreMax= allows it: clients wait in
 * their queues while every process is dead. Each name in the store belongs to one descriptor.
 */
export class DescriptorStore {
  readonly #notifier: Notifier;
  readonly #stored: Set<string>;

  /** @param stored the names that are already in the store */
  constructor(notifier: Notifier, stored: readonly string[]) {
    this.#notifier = notifier;
    this.#stored = new Set(stored);
  }

  /** Stores the sockets among these items, and removes other entries of this package. */
  sync(items: readonly InventoryItem[]): void {
    if (!this.#notifier.isConnected) return;
    const wanted = new Map(items.flatMap((item) => [...entryOf(item)]));
    for (const name of this.#stored) {
      if (wanted.has(name)) continue;
      this.#stored.delete(name);
      this.#notifier.send({ FDSTOREREMOVE: 1, FDNAME: name });
    }
    for (const [name, fd] of wanted) {
      if (this.#stored.has(name)) continue;
      this.#stored.add(name);
      // Otherwise systemd removes a datagram socket that has a pending error.
      this.#notifier.send({ FDSTORE: 1, FDNAME: name, FDPOLL: 0 }, [fd]);
    }
  }
}

/** The names that the sockets among these items have, or will have, in the store. */
export function storeNames(items: readonly InventoryItem[]): string[] {
  return items.flatMap((item) => [...entryOf(item)].map(([name]) => name));
}

/** Reads a name in the store; undefined for an entry that this package has not made. */
export function readStoreName(fdName: string): StoredName | undefined {
  const [prefix, name, socket, dev, ino] = fdName.split(";");
  if (prefix !== PREFIX || name === undefined || socket === undefined) return undefined;
  const [, index, position] = /^(\d+)\.(\d+)$/.exec(dev === MEMBER ? (ino ?? "") : "") ?? [];
  try {
    return {
      name: decodeURIComponent(name),
      ...(position === undefined
        ? dev === undefined || ino === undefined
          ? {}
          : { dev, ino }
        : { member: { index: Number(index), position: Number(position) } }),
    };
  } catch {
    return undefined;
  }
}

/** The name of a descriptor in the store: of a Unix listener with its file, of a reuse-port group with its place there. */
interface StoredName extends Pick<InventoryItem, "member"> {
  name: string;
  dev?: string;
  ino?: string;
}

const PREFIX = "handover";

/** Stands where other names have the number of a device. */
const MEMBER = "member";

/** FDNAME_MAX of systemd. */
const MAX_NAME_LENGTH = 255;

function* entryOf(item: InventoryItem): Generator<[string, number]> {
  // systemd has the sockets of a socket unit anyway, and clients do not use the control socket.
  if (item.activation !== undefined || isReserved(item.name)) return;
  const socket = native().describe(item.fd);
  if (typeof socket === "number" || !(socket.listening || socket.type === "dgram")) return;
  const name = [
    PREFIX,
    escape(item.name),
    // New code may use the same name for another socket.
    fstatSync(item.fd, { bigint: true }).ino,
    ...(item.file === undefined ? [] : [item.file.dev, item.file.ino]),
    ...(item.member === undefined ? [] : [MEMBER, `${item.member.index}.${item.member.position}`]),
  ].join(";");
  if (name.length <= MAX_NAME_LENGTH) yield [name, item.fd];
}

/** Leaves printable ASCII, except the separators of names in `LISTEN_FDNAMES` and of fields in a name. */
function escape(name: string): string {
  return name.replace(/[^ -~]|[:;%]/gu, escapeCharacter);
}

function escapeCharacter(character: string): string {
  return [...Buffer.from(character)].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
}
