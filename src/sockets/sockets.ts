import type { Socket } from "node:dgram";
import type { AddressInfo, Server } from "node:net";
import type { Server as TlsServer } from "node:tls";
import type { Tracker } from "../connections/tracker.js";
import { HandoverError, reasonOf } from "../errors.js";
import type { acceptPhase } from "../lifecycle.js";
import { builtins, isTlsServer } from "../platform/builtins.js";
import { datagramOptions, isUnbound } from "../platform/node-internals.js";
import { native, systemCause, systemError } from "../platform/native.js";
import { runAll } from "../util/run-all.js";
import { takeActivated } from "./systemd-match.js";
import { HeldDatagram } from "./held-datagram.js";
import { identify, type Inventory, type InventoryItem } from "./inventory.js";
import { HeldServer } from "./held-server.js";
import { describeAddress, fits, nameOf, type RequestedAddress } from "../address.js";
import type { OpenOptions } from "./bind.js";
import { isStale } from "./stale-socket.js";
import type { ListenRequest } from "./listen-options.js";

/** The process that the sockets belong to. */
interface SocketsHost {
  readonly phase: () => ReturnType<typeof acceptPhase>;
  /** Binds an address, and listens on it; or asks the owner of the service's listeners to. */
  readonly open: (request: SocketRequest) => Promise<Omit<InventoryItem, "name">>;
}

/** A socket that is to be bound. */
interface SocketRequest extends OpenOptions {
  readonly name: string;
  readonly address: RequestedAddress;
}

/** Every server and datagram socket of this process that was given to handover, and the operations on all of them. */
export class Sockets {
  readonly #inventory: Inventory;
  readonly #tracker: Tracker;
  readonly #host: SocketsHost;
  readonly #all = new Set<HeldServer | HeldDatagram>();
  readonly #objects = new WeakSet<Server | Socket>();
  readonly #pending = new Set<Promise<unknown>>();

  constructor(inventory: Inventory, tracker: Tracker, host: SocketsHost) {
    this.#inventory = inventory;
    this.#tracker = tracker;
    this.#host = host;
  }

  /**
   * Takes a server's listener from the inventory, or binds it; accepts if this process does.
   *
   * @param tracked whether a drain waits for its connections
   * @returns the bound address
   * @throws {HandoverError} `ERR_LISTEN`; `ERR_STOPPED` if this process is replaced or stopped meanwhile
   */
  async listen(server: Server, request: ListenRequest, tracked = true): Promise<AddressInfo | string> {
    if (server.listening) throw cannot(request, "the server listens already");
    const held = await this.#hold(server, request, (item) => {
      const over = (one: HeldServer): void => this.#forget(one);
      return new HeldServer(server, item, this.#inventory, request.backlog, over);
    });
    if (tracked) this.#tracker.watch(server, held.name, request.connections, request.tls);
    if (this.#host.phase() === "accepting") await held.accept();
    else if (request.early === true) held.announce();
    closeAt(request.signal, server);
    return held.address;
  }

  /** As {@link listen}, for a datagram socket. */
  async bind(socket: Socket, request: ListenRequest): Promise<AddressInfo> {
    if (!isUnbound(socket)) throw cannot(request, "the socket is bound already, or closed");
    const held = await this.#hold(socket, request, (item) => {
      return new HeldDatagram(socket, item, this.#inventory, (one) => this.#forget(one));
    });
    if (this.#host.phase() === "accepting") await held.accept();
    else if (request.early === true) held.announce();
    return held.address;
  }

  /** Whether clients no longer find an inherited Unix listener: its file was removed, or replaced by one that leads nowhere. */
  isFileLost(name: string): boolean {
    const file = this.#inventory.inherited().find((item) => item.name === name)?.file;
    if (file === undefined) return false;
    try {
      const now = identify(file.path);
      return (now.dev !== file.dev || now.ino !== file.ino) && isStale(file.path);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "ENOENT";
    }
  }

  /** Whether a `listen()` or `bind()` waits for its descriptor. */
  get isBinding(): boolean {
    return this.#pending.size > 0;
  }

  /** Resolves when every pending `listen()` and `bind()` has its descriptor, or has failed. */
  async bound(): Promise<void> {
    await Promise.allSettled(this.#pending);
  }

  /** Accepts on everything. Every socket listens when this returns; resolves when all have emitted `listening`. */
  async accept(): Promise<void> {
    await Promise.all([...this.#all].map((one) => one.accept()));
  }

  /** The keys of the session tickets of TLS servers, in base64, by the names of their listeners. */
  ticketKeys(): Record<string, string> {
    const servers = this.#secureServers();
    return Object.fromEntries(
      servers.map(([name, server]) => [name, server.getTicketKeys().toString("base64")]),
    );
  }

  /** Lets clients resume their sessions with the predecessor. To be called before the first handshake. */
  setTicketKeys(keys: Record<string, string>): void {
    for (const [name, server] of this.#secureServers()) {
      const key = Object.hasOwn(keys, name) ? Buffer.from(keys[name]!, "base64") : undefined;
      if (key?.length === TICKET_KEYS) server.setTicketKeys(key);
    }
  }

  /** The servers, with the names of their listeners. */
  servers(): [string, Server][] {
    return [...this.#all].flatMap((one): [string, Server][] =>
      one instanceof HeldServer ? [[one.name, one.server]] : [],
    );
  }

  #secureServers(): [string, TlsServer][] {
    return this.servers().filter((one): one is [string, TlsServer] => isTlsServer(one[1]));
  }

  /** Stops accepting, within this turn. */
  stop(): void {
    runAll([...this.#all].map((one) => () => one.stop()));
  }

  /** Accepts again after a rollback. */
  resume(): void {
    runAll([...this.#all].map((one) => () => one.resume()));
  }

  /**
   * Accepts on the listener of another worker, too.
   *
   * @param index of that worker
   * @param fd this object's own from now on
   */
  lend(name: string, index: number, fd: number): void {
    const held = [...this.#all].find((one) => one.name === name);
    if (held instanceof HeldServer) held.lend(index, fd);
    else native().close(fd);
  }

  /** The worker of that index accepts itself again. */
  unlend(name: string, index: number): void {
    for (const one of this.#all) if (one.name === name && one instanceof HeldServer) one.unlend(index);
  }

  /** Closes the descriptors that {@link resume} would have needed. */
  closeSpares(): void {
    runAll([...this.#all].map((one) => () => one.closeSpare()));
  }

  /** Closes every datagram socket, in this turn: {@link stop} only ends its reading, and it would hold its address. */
  releaseDatagrams(): void {
    runAll([...this.#all].map((one) => () => "socket" in one && one.release()));
  }

  /** Closes every server and socket. */
  closeAll(): void {
    const all = [...this.#all];
    this.#all.clear();
    runAll(all.map((one) => () => one.end()));
  }

  #forget(one: HeldServer | HeldDatagram): void {
    this.#all.delete(one);
    this.#objects.delete("server" in one ? one.server : one.socket);
    if ("server" in one) this.#tracker.unwatch(one.server);
  }

  /** Up to its first `await` this runs in the caller's turn, so that names are reserved in the order of the calls. */
  async #hold<T extends HeldServer | HeldDatagram>(
    object: Server | Socket,
    request: ListenRequest,
    make: (item: InventoryItem) => T,
  ): Promise<T> {
    if (this.#objects.has(object)) throw cannot(request, "it was given to handover already");
    const name = this.#nameFor(request);
    const obtaining = this.#obtain(name, request, object);
    this.#pending.add(obtaining);
    this.#objects.add(object);
    try {
      const item = await obtaining;
      if (this.#host.phase() === "stopped") {
        this.#inventory.close(name);
        throw new HandoverError("ERR_STOPPED", `cannot listen on ${name}: this process no longer accepts`);
      }
      const held = this.#make(item, request, make);
      this.#all.add(held);
      return held;
    } catch (error) {
      this.#objects.delete(object);
      throw error;
    } finally {
      this.#pending.delete(obtaining);
    }
  }

  #make<T>(item: InventoryItem, request: ListenRequest, make: (item: InventoryItem) => T): T {
    try {
      return make(item);
    } catch (cause) {
      this.#inventory.close(item.name);
      throw cannot(request, reasonOf(cause), systemCause(cause));
    }
  }

  #nameFor(request: ListenRequest): string {
    const name = request.name ?? nameOf(request.address, (one) => this.#inventory.isTaken(one));
    if (!this.#inventory.isTaken(name)) return name;
    if (request.name !== undefined) throw cannot(request, `the name "${name}" is in use`);
    const cause = systemError(-builtins.os.constants.errno.EADDRINUSE, "listen on", name);
    throw cannot(request, "EADDRINUSE (held by this process)", cause);
  }

  async #obtain(name: string, request: ListenRequest, object: Server | Socket): Promise<InventoryItem> {
    this.#inventory.reserve(name);
    try {
      const inherited = request.afresh ? undefined : await this.#takeInherited(name, request);
      if (inherited !== undefined) return inherited;
      const family = "type" in object ? { family: object.type === "udp4" ? (4 as const) : (6 as const) } : {};
      const { address, backlog, mode } = request;
      const opened = await this.#host.open({ name, address, backlog, mode, ...family });
      const item = { ...opened, name };
      this.#inventory.add(item);
      return item;
    } finally {
      this.#inventory.unreserve(name);
    }
  }

  async #takeInherited(name: string, request: ListenRequest): Promise<InventoryItem | undefined> {
    return (
      (await this.#inventory.take(name, (item) => fits(request.address, item.address))) ??
      (await takeActivated(this.#inventory, name, request))
    );
  }
}

/** Bytes of the ticket keys; Node refuses every other number. */
const TICKET_KEYS = 48;

function closeAt(signal: AbortSignal | undefined, server: Server): void {
  if (signal?.aborted) server.close();
  else signal?.addEventListener("abort", () => server.close(), { once: true });
}

/** The options that a datagram socket was created with. */
export function kindOfSocket(socket: Socket): { type: string; ipv6Only: boolean } {
  return { type: (socket as unknown as { type: string }).type, ...datagramOptions(socket) };
}

function cannot(request: ListenRequest, why: string, cause?: unknown): HandoverError {
  return new HandoverError("ERR_LISTEN", `cannot listen on ${describeAddress(request.address)}: ${why}`, {
    cause,
  });
}
