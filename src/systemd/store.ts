import { fstatSync } from "node:fs";
import { native } from "../platform/native.js";
import type { InventoryItem } from "../sockets/inventory.js";
import type { Notifier } from "./notify.js";

/**
 * What systemd keeps of this service in its descriptor store, if FileDescriptorStoreMax= says so: listeners, so that
 * clients wait in their queues while every process is dead. A name there stands for one descriptor.
 */
export class DescriptorStore {
  readonly #notifier: Notifier;
  readonly #stored: Set<string>;

  /** @param stored the names that are there already */
  constructor(notifier: Notifier, stored: readonly string[]) {
    this.#notifier = notifier;
    this.#stored = new Set(stored);
  }

  /** Makes it hold the sockets among these, and nothing else of this package's. */
  sync(items: readonly InventoryItem[]): void {
    const wanted = new Map(items.flatMap((item) => [...entryOf(item)]));
    for (const name of this.#stored) {
      if (wanted.has(name)) continue;
      this.#stored.delete(name);
      this.#notifier.send({ FDSTOREREMOVE: 1, FDNAME: name });
    }
    for (const [name, fd] of wanted) {
      if (this.#stored.has(name)) continue;
      this.#stored.add(name);
      // An error that waits at a datagram socket is no reason to drop it.
      this.#notifier.send({ FDSTORE: 1, FDNAME: name, FDPOLL: 0 }, [fd]);
    }
  }
}

/** The names under which the sockets among these are, or will be, in the store. */
export function storeNames(items: readonly InventoryItem[]): string[] {
  return items.flatMap((item) => [...entryOf(item)].map(([name]) => name));
}

/** What the name in the store says; undefined for what this package has not put there. */
export function readStoreName(fdName: string): { name: string; dev?: string; ino?: string } | undefined {
  const [prefix, name, socket, dev, ino] = fdName.split(";");
  if (prefix !== PREFIX || name === undefined || socket === undefined) return undefined;
  try {
    return {
      name: decodeURIComponent(name),
      ...(dev === undefined || ino === undefined ? {} : { dev, ino }),
    };
  } catch {
    return undefined;
  }
}

const PREFIX = "handover";

/** FDNAME_MAX of systemd. */
const LONGEST_NAME = 255;

function* entryOf(item: InventoryItem): Generator<[string, number]> {
  // What a socket unit has passed systemd has anyway; the control socket is of no use to clients.
  if (item.activation !== undefined || item.name.startsWith("handover:")) return;
  const socket = native().describe(item.fd);
  if (typeof socket === "number" || !(socket.listening || socket.type === "dgram")) return;
  const name = [
    PREFIX,
    escape(item.name),
    // New code may mean another socket by the same name.
    fstatSync(item.fd, { bigint: true }).ino,
    ...(item.file === undefined ? [] : [item.file.dev, item.file.ino]),
  ].join(";");
  if (name.length <= LONGEST_NAME) yield [name, item.fd];
}

/** Printable ASCII without what separates names in `LISTEN_FDNAMES`, and fields in a name. */
function escape(name: string): string {
  return name.replace(/[^ -~]|[:;%]/gu, escapeCharacter);
}

function escapeCharacter(character: string): string {
  return [...Buffer.from(character)].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
}
