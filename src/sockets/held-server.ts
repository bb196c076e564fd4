import { addressOf } from "./describe.js";
import type { AddressInfo, Server } from "node:net";
import { HandoverError } from "../errors.js";
import { allowClose, closeListener, requireClosable, overrideMember } from "../platform/node-internals.js";
import { native } from "../platform/native.js";
import type { Inventory, InventoryItem } from "./inventory.js";

/**
 * A server on a descriptor of the inventory. It is *held* until {@link accept}, then it accepts; at an upgrade
 * it is *stopped*, with its connections alive, until {@link resume} or {@link end}.
 *
 * From the hold to the end the server answers `address()`, and its `close()` knows the phase.
 */
export class HeldServer {
  readonly server: Server;
  readonly name: string;
  readonly address: AddressInfo | string;
  readonly #inventory: Inventory;
  readonly #backlog: number;
  readonly #onOver: (listening: HeldServer) => void;
  #phase: "held" | "accepting" | "stopped" | "over" = "held";
  /** To accept with after go, or a rollback, which must not fail for want of a descriptor. */
  #spare: number | undefined;

  /** @param onOver called when the server is closed, by the program or at the end of the drain */
  constructor(
    server: Server,
    item: InventoryItem,
    inventory: Inventory,
    backlog: number,
    onOver: (listening: HeldServer) => void,
  ) {
    requireClosable(server);
    this.server = server;
    this.name = item.name;
    this.address = addressOf(item);
    this.#inventory = inventory;
    this.#backlog = backlog;
    this.#onOver = onOver;
    this.#spare = inventory.duplicate(item.name);
    overrideMember(server, "address", () => this.address);
    overrideMember(server, "close", (callback?: (error?: Error) => void) => this.#close(callback));
  }

  /** Accepts; resolves when the server has emitted `listening`. One that cannot is given back as it was. */
  async accept(): Promise<void> {
    if (this.#phase !== "held") return;
    this.#phase = "accepting";
    await new Promise<void>((resolve, reject) => {
      const { server } = this;
      const settle = (error?: Error): void => {
        for (const event of SETTLING) server.removeListener(event, settle);
        if (error === undefined) return resolve();
        this.#giveUp();
        reject(this.#cannotAccept(error));
      };
      for (const event of SETTLING) server.once(event, settle);
      try {
        this.#listen();
      } catch (error) {
        settle(error as Error);
      }
    });
  }

  /** Stops accepting, at once. The descriptor stays in the inventory, and connections stay as they are. */
  stop(): void {
    if (this.#phase === "accepting") {
      closeListener(this.server);
      this.#spare = this.#tryDuplicate();
    }
    if (this.#phase !== "over") this.#phase = "stopped";
  }

  /** Accepts again, as if it had never stopped: `listening` is not repeated. */
  resume(): void {
    if (this.#phase !== "stopped") return;
    this.#phase = "accepting";
    allowClose(this.server);
    swallowOnce(this.server, "listening");
    this.#listen();
  }

  /** It will not accept (again). */
  closeSpare(): void {
    if (this.#spare !== undefined) native().close(this.#spare);
    this.#spare = undefined;
  }

  /** The drain is over: closes the server for good, which emits `close`. */
  end(): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    this.closeSpare();
    this.#restoreMembers();
    allowClose(this.server);
    this.server.close();
  }

  /** `backlog` must be an argument of its own: in the options, beside `fd`, Node ignores it. */
  #listen(): void {
    const fd = this.#spare ?? this.#inventory.duplicate(this.name);
    this.#spare = undefined;
    this.server.listen({ fd }, this.#backlog as unknown as () => void);
  }

  /** Succeeds after a close, but for a thread that is quicker; then {@link resume} tries again. */
  #tryDuplicate(): number | undefined {
    try {
      return this.#inventory.duplicate(this.name);
    } catch {
      return undefined;
    }
  }

  #close(callback?: (error?: Error) => void): Server {
    const { server } = this;
    if (this.#phase === "stopped") {
      // Its connections are draining; `close` comes when they have.
      if (callback !== undefined) server.once("close", () => callback());
      return server;
    }
    const wasHeld = this.#phase === "held";
    this.#giveUp();
    if (!wasHeld) return server.close(callback);
    if (callback !== undefined) server.once("close", () => callback());
    process.nextTick(() => server.emit("close"));
    return server;
  }

  #giveUp(): void {
    this.#phase = "over";
    this.closeSpare();
    this.#restoreMembers();
    this.#inventory.release(this.name);
    this.#onOver(this);
  }

  #restoreMembers(): void {
    delete (this.server as Partial<Server>).address;
    delete (this.server as Partial<Server>).close;
  }

  #cannotAccept(cause: Error): HandoverError {
    return new HandoverError("ERR_LISTEN", `cannot accept on ${this.name}: ${cause.message}`, { cause });
  }
}

/** A server that is closed in the turn in which it listens never emits `listening`. */
const SETTLING = ["listening", "error", "close"];

function swallowOnce(server: Server, event: string): void {
  const own = Object.getOwnPropertyDescriptor(server, "emit");
  const emit = server.emit.bind(server) as (...args: unknown[]) => boolean;
  overrideMember(server, "emit", ((...args: unknown[]) => {
    if (args[0] !== event) return emit(...args);
    delete (server as Partial<Server>).emit;
    if (own !== undefined) Object.defineProperty(server, "emit", own);
    return true;
  }) as Server["emit"]);
}
