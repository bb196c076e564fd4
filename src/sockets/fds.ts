import { fstatSync } from "node:fs";
import { Socket } from "node:net";
import { HandoverError } from "../errors.js";
import { descriptorOf } from "../platform/node-internals.js";
import { check, native } from "../platform/native.js";
import type { Inventory } from "./inventory.js";
import { requireOwnName } from "../util/validation.js";
import { DESCRIPTOR_NAME, requireName } from "./listen-options.js";

/**
 * Descriptors that are handed on by name, for what is no server: tableflip's `Fds`. What is added is
 * duplicated; what is returned is the caller's to close. A descriptor that was inherited and is asked for is
 * handed on again; one that nobody has asked for when `ready()` is called is closed.
 *
 * What adds one rejects with `ERR_DESCRIPTOR` if the name is in use, or the descriptor is none of that kind; with
 * `ERR_OPTION` for what is no name; and where it is too late with `ERR_UPGRADE_IN_PROGRESS`, `ERR_ALREADY_UPGRADED` or
 * `ERR_STOPPED`. Every method rejects with `ERR_OPTION` for a name that begins with `handover:`.
 */
export class Fds {
  readonly #inventory: Inventory;
  /** Throws where nothing can be added any more. */
  readonly #checkOpen: () => void;

  constructor(inventory: Inventory, checkOpen: () => void) {
    this.#inventory = inventory;
    this.#checkOpen = checkOpen;
  }

  /** An inherited descriptor, of whatever kind; undefined if there is none of that name, or it is in use. */
  async file(name: string): Promise<number | undefined> {
    return this.#take(name, () => true);
  }

  /** All inherited descriptors that are not in use yet and came by {@link addFile}, by name. */
  async files(): Promise<Map<string, number>> {
    const files = new Map<string, number>();
    for (const name of this.#inventory.inheritedNames()) {
      const fd = await this.#take(name, (item) => item.address === undefined && kindOf(item.fd) === "file");
      if (fd !== undefined) files.set(name, fd);
    }
    return files;
  }

  /** Hands a descriptor on: a pipe, a file, anything. */
  async addFile(name: string, fd: number): Promise<void> {
    this.#add(name, fd, kindOf(fd));
  }

  /** An inherited connection. */
  async conn(name: string): Promise<Socket | undefined> {
    const fd = await this.#take(name, (item) => kindOf(item.fd) === "conn");
    return fd === undefined ? undefined : new Socket({ fd, readable: true, writable: true });
  }

  /** Hands a connection on. Both processes then have it: end it in one of them with care. */
  async addConn(name: string, socket: Socket): Promise<void> {
    this.#add(name, descriptorOf(socket), "conn");
  }

  /** An inherited listening descriptor. */
  async listener(name: string): Promise<number | undefined> {
    return this.#take(name, (item) => kindOf(item.fd) === "listener");
  }

  /** Hands on a listening descriptor that was not made by `listen()`. */
  async addListener(name: string, fd: number): Promise<void> {
    this.#add(name, fd, "listener");
  }

  /** An inherited datagram descriptor. */
  async packetConn(name: string): Promise<number | undefined> {
    return this.#take(name, (item) => kindOf(item.fd) === "packetConn");
  }

  /** Hands on a datagram descriptor that was not made by `bind()`. */
  async addPacketConn(name: string, fd: number): Promise<void> {
    this.#add(name, fd, "packetConn");
  }

  async #take(name: string, isMeant: Parameters<Inventory["take"]>[1]): Promise<number | undefined> {
    requireOwnName(DESCRIPTOR_NAME, name);
    const item = await this.#inventory.take(name, isMeant);
    return item === undefined ? undefined : this.#inventory.duplicate(name);
  }

  #add(name: string, fd: number, expected: Kind): void {
    this.#checkOpen();
    if (this.#inventory.isTaken(requireName(name))) {
      throw new HandoverError("ERR_DESCRIPTOR", `cannot add "${name}": there is a descriptor of that name`);
    }
    const kind = kindOf(fd);
    if (kind !== expected) {
      throw new HandoverError(
        "ERR_DESCRIPTOR",
        `cannot add "${name}": descriptor ${fd} is a ${kind}, not a ${expected}`,
      );
    }
    this.#inventory.add({ name, fd: check(native().duplicate(fd), "duplicate", `descriptor ${fd}`) });
  }
}

type Kind = "file" | "conn" | "listener" | "packetConn";

function kindOf(fd: number): Kind {
  let isSocket: boolean;
  try {
    isSocket = fstatSync(fd).isSocket();
  } catch (cause) {
    throw new HandoverError("ERR_DESCRIPTOR", `there is no descriptor ${fd}`, { cause });
  }
  if (!isSocket) return "file";
  const socket = check(native().describe(fd), "describe", `descriptor ${fd}`);
  if (socket.type === "dgram") return "packetConn";
  return socket.listening ? "listener" : "conn";
}
