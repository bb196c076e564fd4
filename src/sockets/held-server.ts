import { addressOf } from "./describe.js";
import { createServer, type AddressInfo, type Server, type ServerOpts } from "node:net";
import { HandoverError } from "../errors.js";
import {
  allowClose,
  closeListener,
  countConnection,
  joinServer,
  listenOn,
  requireClosable,
  overrideMember,
  wrapMember,
} from "../platform/node-internals.js";
import { native } from "../platform/native.js";
import type { Inventory, InventoryItem } from "./inventory.js";

/**
 * A server on a descriptor of the inventory. It is *held* until {@link accept}, then it accepts; at an upgrade
 * it is *stopped*, with its connections alive, until {@link resume} or {@link end}.
 *
 * From the hold to the end the server answers `address()`, and its `close()` does what its phase needs.
 */
export class HeldServer {
  readonly server: Server;
  readonly name: string;
  readonly address: AddressInfo | string;
  readonly #inventory: Inventory;
  readonly #backlog: number;
  readonly #onOver: (held: HeldServer) => void;
  #phase: "held" | "accepting" | "stopped" | "over" = "held";
  /** To accept with after the commit, or a rollback, which must not fail for want of a descriptor. */
  #spare: number | undefined;
  /** Whether the server has emitted `listening` before it accepts. */
  #isAnnounced = false;
  /** Further listeners, by the index of the worker whose they are. */
  readonly #lent = new Map<number, Server>();

  /** @param onOver called when the server is closed, by the program or at the end of the drain */
  constructor(
    server: Server,
    item: InventoryItem,
    inventory: Inventory,
    backlog: number,
    onOver: (held: HeldServer) => void,
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

  /** While it is held the server says that it listens, and emits `listening` in the next tick. */
  announce(): void {
    const { server } = this;
    Object.defineProperty(server, "listening", { value: true, configurable: true });
    this.#isAnnounced = true;
    process.nextTick(() => this.#phase === "over" || server.emit("listening"));
  }

  /** Accepts; resolves when the server has emitted `listening`. If it cannot, the server is as before `listen()`. */
  async accept(): Promise<void> {
    if (this.#phase !== "held") return;
    this.#phase = "accepting";
    await new Promise<void>((resolve, reject) => {
      const { server } = this;
      let endSwallowing: (() => void) | undefined;
      const onOutcome = (error?: Error): void => {
        for (const event of OUTCOMES) server.removeListener(event, onOutcome);
        endSwallowing?.();
        if (error === undefined) return resolve();
        this.#finish();
        reject(this.#cannotAccept(error));
      };
      for (const event of OUTCOMES) server.once(event, onOutcome);
      if (this.#isAnnounced) {
        delete (server as Partial<{ listening: boolean }>).listening;
        // It has been emitted before.
        endSwallowing = swallowOnce(server, "listening", () => onOutcome());
      }
      try {
        this.#listen();
      } catch (error) {
        onOutcome(error as Error);
      }
    });
  }

  /** Stops accepting, at once. The descriptor stays in the inventory, and connections stay as they are. */
  stop(): void {
    for (const index of this.#lent.keys()) this.unlend(index);
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

  /**
   * Accepts on a descriptor of another worker, too, which has no worker at the moment.
   *
   * @param index of that worker
   * @param fd this object's own from now on
   */
  lend(index: number, fd: number): void {
    this.unlend(index);
    if (this.#phase !== "accepting") return void native().close(fd);
    const { server } = this;
    // Its sockets are to be like those that the server itself accepts.
    const options = server as unknown as ServerOpts;
    const { allowHalfOpen, pauseOnConnect, noDelay, keepAlive, keepAliveInitialDelay, highWaterMark } =
      options;
    const given = { allowHalfOpen, pauseOnConnect, noDelay, keepAlive, keepAliveInitialDelay, highWaterMark };
    const defined = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    const extra = createServer(defined, (socket) => {
      // As a connection of another server it could not move.
      countConnection(extra, -1);
      countConnection(server, 1);
      joinServer(server, socket);
      server.emit("connection", socket);
    });
    // The worker of that index accepts again, or another one empties the queue.
    extra.on("error", () => this.unlend(index));
    listenOn(extra, fd, this.#backlog);
    this.#lent.set(index, extra);
  }

  /** The worker of that index accepts itself again. */
  unlend(index: number): void {
    this.#lent.get(index)?.close();
    this.#lent.delete(index);
  }

  /** The server will not accept, or not again. */
  closeSpare(): void {
    if (this.#spare !== undefined) native().close(this.#spare);
    this.#spare = undefined;
  }

  /** The drain is over: closes the server, which emits `close`. */
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
    listenOn(this.server, fd, this.#backlog);
  }

  /** A descriptor has just been closed; if another thread takes it first, {@link resume} tries again. */
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
    this.#finish();
    if (!wasHeld) return server.close(callback);
    if (callback !== undefined) server.once("close", () => callback());
    process.nextTick(() => server.emit("close"));
    return server;
  }

  #finish(): void {
    this.#phase = "over";
    for (const index of this.#lent.keys()) this.unlend(index);
    this.closeSpare();
    this.#restoreMembers();
    this.#inventory.close(this.name);
    this.#onOver(this);
  }

  #restoreMembers(): void {
    delete (this.server as Partial<Server>).address;
    delete (this.server as Partial<Server>).close;
    if (this.#isAnnounced) delete (this.server as Partial<{ listening: boolean }>).listening;
  }

  #cannotAccept(cause: Error): HandoverError {
    return new HandoverError("ERR_LISTEN", `cannot accept on ${this.name}: ${cause.message}`, { cause });
  }
}

/** A server that is closed in the turn in which it listens never emits `listening`. */
const OUTCOMES = ["listening", "error", "close"];

/** Keeps the next event of this name from the program. Returns a function that ends this. */
function swallowOnce(server: Server, event: string, then = (): void => {}): () => void {
  const restore = wrapMember(server, "emit", (emit) => (...args) => {
    if (args[0] !== event) return emit(...args);
    restore();
    then();
    return true;
  });
  return restore;
}
