import type { Socket } from "node:dgram";
import type { AddressInfo } from "node:net";
import { HandoverError, reasonOf } from "../errors.js";
import { setReceiving, overrideMember } from "../platform/node-internals.js";
import { native } from "../platform/native.js";
import type { Inventory, InventoryItem } from "./inventory.js";
import { addressOf } from "./describe.js";

/**
 * A datagram socket on a descriptor of the inventory. Until {@link accept} it is *held*: it answers `address()`, and
 * datagrams to be sent wait. Of two generations one reads; both can send.
 */
export class HeldDatagram {
  readonly socket: Socket;
  readonly name: string;
  readonly address: AddressInfo;
  readonly #inventory: Inventory;
  readonly #onOver: (held: HeldDatagram) => void;
  readonly #waiting: Parameters<Socket["send"]>[] = [];
  #phase: "held" | "accepting" | "stopped" | "over" = "held";
  /** Read from after the commit, which must not fail for want of a descriptor. */
  #spare: number | undefined;

  /** @param onOver called when the socket is closed, by the program or at the end of the drain */
  constructor(
    socket: Socket,
    item: InventoryItem,
    inventory: Inventory,
    onOver: (held: HeldDatagram) => void,
  ) {
    this.socket = socket;
    this.name = item.name;
    this.address = addressOf(item) as AddressInfo;
    this.#inventory = inventory;
    this.#onOver = onOver;
    this.#spare = inventory.duplicate(item.name);
    overrideMember(socket, "address", () => this.address);
    overrideMember(
      socket,
      "send",
      ((...args: Parameters<Socket["send"]>) => void this.#waiting.push(args)) as Socket["send"],
    );
    overrideMember(socket, "addMembership", joining(socket.addMembership.bind(socket)));
    overrideMember(
      socket,
      "addSourceSpecificMembership",
      joining(socket.addSourceSpecificMembership.bind(socket)),
    );
    overrideMember(socket, "close", (callback?: () => void) => this.#close(callback));
  }

  /** While it is held it emits `listening`, and does not read. */
  announce(): void {
    this.#bind();
    setReceiving(this.socket, false);
  }

  /** Reads, and sends the datagrams that have waited. */
  async accept(): Promise<void> {
    if (this.#phase !== "held") return;
    this.#phase = "accepting";
    delete (this.socket as Partial<Socket>).send;
    delete (this.socket as Partial<Socket>).address;
    if (this.#spare === undefined) setReceiving(this.socket, true);
    else this.#bind();
    for (const args of this.#waiting.splice(0)) this.#send(args);
  }

  #bind(): void {
    const fd = this.#spare!;
    this.#spare = undefined;
    try {
      // Emits `listening` before it returns.
      this.socket.bind({ fd });
    } catch (cause) {
      this.#finish();
      throw new HandoverError("ERR_LISTEN", `cannot read from ${this.name}: ${reasonOf(cause)}`, { cause });
    }
  }

  stop(): void {
    if (this.#phase === "accepting") setReceiving(this.socket, false);
    if (this.#phase !== "over") this.#phase = "stopped";
  }

  resume(): void {
    if (this.#phase !== "stopped") return;
    this.#phase = "accepting";
    setReceiving(this.socket, true);
  }

  /** A socket that is only held will not read. One that has read keeps its descriptor for a rollback. */
  closeSpare(): void {
    if (this.#spare !== undefined) native().close(this.#spare);
    this.#spare = undefined;
  }

  end(): void {
    if (this.#phase !== "over") this.#close();
  }

  /** Closes the socket although the program may still use it: another service needs the address. What it sends is lost. */
  release(): void {
    if (this.#phase === "over") return;
    this.#close();
    overrideMember(this.socket, "address", () => this.address);
    for (const name of ["send", "close"] as const) overrideMember(this.socket, name, callBackOnly as never);
  }

  /** A wrong argument can no longer throw in the program's call of `send()`, and must not reject its `ready()`. */
  #send(args: Parameters<Socket["send"]>): void {
    try {
      this.socket.send(...args);
    } catch (error) {
      const callback: unknown = args.at(-1);
      if (typeof callback === "function") process.nextTick(callback, error);
      else process.nextTick(() => this.socket.emit("error", error as Error));
    }
  }

  #close(callback?: () => void): Socket {
    this.#finish();
    return this.socket.close(callback);
  }

  #finish(): void {
    this.#phase = "over";
    this.closeSpare();
    for (const name of OVERRIDDEN) delete (this.socket as Partial<Socket>)[name];
    this.#inventory.close(this.name);
    this.#onOver(this);
  }
}

const OVERRIDDEN = ["address", "send", "addMembership", "addSourceSpecificMembership", "close"] as const;

function callBackOnly(this: Socket, ...args: unknown[]): Socket {
  const callback = args.at(-1);
  if (typeof callback === "function") process.nextTick(callback);
  return this;
}

/** The generations share one socket: a group that the predecessor has joined, its successor cannot join again. */
function joining<A extends unknown[]>(join: (...args: A) => void): (...args: A) => void {
  return (...args) => {
    try {
      join(...args);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    }
  };
}
