import { fstatSync } from "node:fs";
import { Socket } from "node:net";
import { HandoverError, reasonOf } from "../errors.js";
import { asyncAtCaller } from "../platform/at-caller.js";
import { builtins } from "../platform/builtins.js";
import { descriptorOf } from "../platform/node-internals.js";
import { check, native } from "../platform/native.js";
import { wrongOption } from "../util/validation.js";
import type { Inventory } from "./inventory.js";
import { requireName } from "./listen-options.js";

/**
 * Descriptors that move by name, for everything but servers: tableflip's `Fds`. An added descriptor is duplicated; a
 * returned one is the caller's to close. An inherited descriptor that was asked for moves to the next process as well;
 * one that was not is closed by `ready()`.
 *
 * Every method rejects with `ERR_OPTION` for a name that is no string of 1 to 256 characters, or begins with `handover:`;
 * and with `ERR_DESCRIPTOR` if the system refuses (`cause`). One that adds a descriptor rejects with `ERR_DESCRIPTOR` if
 * the name is in use, or the descriptor is not of that kind; and too late with `ERR_UPGRADE_IN_PROGRESS`,
 * `ERR_ALREADY_UPGRADED` or `ERR_STOPPED`.
 */
export class Fds {
  readonly #inventory: Inventory;
  /** Throws in a process that is being replaced or stopped. */
  readonly #checkOpen: () => void;

  constructor(inventory: Inventory, checkOpen: () => void) {
    this.#inventory = inventory;
    this.#checkOpen = checkOpen;
  }

  /** An inherited descriptor, of whatever kind; undefined if no descriptor has that name, or it is in use. */
  file(name: string): Promise<number | undefined> {
    return asyncAtCaller(this, "file", () => this.#take(requireName(name), () => true));
  }

  /** All inherited descriptors that are not in use yet and came by {@link addFile}, by name. */
  files(): Promise<Map<string, number>> {
    return asyncAtCaller(this, "files", async () => {
      const files = new Map<string, number>();
      for (const name of this.#inventory.inheritedNames()) {
        const fd = await this.#take(name, (item) => item.address === undefined && kindOf(item.fd) === "file");
        if (fd !== undefined) files.set(name, fd);
      }
      return files;
    });
  }

  /** Adds a descriptor of any kind: a pipe, a file. */
  addFile(name: string, fd: number): Promise<void> {
    return asyncAtCaller(this, "addFile", () => this.#add(name, fd, kindOf(fd)));
  }

  /** An inherited connection. */
  conn(name: string): Promise<Socket | undefined> {
    return asyncAtCaller(this, "conn", () =>
      this.#takeKind(name, "conn").then((fd) => (fd === undefined ? undefined : socketOn(fd, name))),
    );
  }

  /** Adds a connection. Both processes then have it, and either can end it for the other. */
  addConn(name: string, socket: Socket): Promise<void> {
    return asyncAtCaller(this, "addConn", () => {
      if (!(socket instanceof Socket)) throw wrongOption("socket", "a net.Socket", socket);
      this.#add(name, descriptorOf(socket), "conn");
    });
  }

  /** An inherited listening descriptor. */
  listener(name: string): Promise<number | undefined> {
    return asyncAtCaller(this, "listener", () => this.#takeKind(name, "listener"));
  }

  /** Adds a listening descriptor that was not made by `listen()`. */
  addListener(name: string, fd: number): Promise<void> {
    return asyncAtCaller(this, "addListener", () => this.#add(name, fd, "listener"));
  }

  /** An inherited datagram descriptor. */
  packetConn(name: string): Promise<number | undefined> {
    return asyncAtCaller(this, "packetConn", () => this.#takeKind(name, "packetConn"));
  }

  /** Adds a datagram descriptor that was not made by `bind()`. */
  addPacketConn(name: string, fd: number): Promise<void> {
    return asyncAtCaller(this, "addPacketConn", () => this.#add(name, fd, "packetConn"));
  }

  #takeKind(name: string, kind: Kind): Promise<number | undefined> {
    return this.#take(requireName(name), (item) => kindOf(item.fd) === kind);
  }

  async #take(name: string, isMeant: Parameters<Inventory["take"]>[1]): Promise<number | undefined> {
    const item = await this.#inventory.take(name, isMeant);
    return item === undefined ? undefined : this.#inventory.duplicate(name);
  }

  #add(name: string, fd: number, expected: Kind): void {
    this.#checkOpen();
    if (this.#inventory.isTaken(requireName(name))) {
      throw new HandoverError(
        "ERR_DESCRIPTOR",
        `cannot add "${name}": there is a descriptor of that name already`,
      );
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

/** Node has sockets for TCP and Unix streams only. */
function socketOn(fd: number, name: string): Socket {
  try {
    return new Socket({ fd, readable: true, writable: true });
  } catch (cause) {
    native().close(fd);
    throw new HandoverError("ERR_DESCRIPTOR", `cannot make a socket of "${name}": ${reasonOf(cause)}`, {
      cause,
    });
  }
}

type Kind = "file" | "conn" | "listener" | "packetConn";

function kindOf(fd: number): Kind {
  let isSocket: boolean;
  try {
    isSocket = fstatSync(fd).isSocket();
  } catch (cause) {
    const shown = builtins.util.inspect(fd);
    throw new HandoverError("ERR_DESCRIPTOR", `cannot use descriptor ${shown}: it is not open`, { cause });
  }
  if (!isSocket) return "file";
  const socket = check(native().describe(fd), "describe", `descriptor ${fd}`);
  if (socket.type === "dgram") return "packetConn";
  return socket.listening ? "listener" : "conn";
}
