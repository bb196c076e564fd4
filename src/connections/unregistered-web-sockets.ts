import { isHeldOpen } from "../util/attached.js";
import type { IncomingMessage } from "node:http";
import type { Server, Socket } from "node:net";
import { wrapMember } from "../platform/node-internals.js";
import type { CloseStrategy } from "./adapter.js";
import { onClose } from "../util/on-close.js";
import { WatchedWrites } from "./watched-writes.js";

/** Sockets of WebSockets that `handover/ws` moves or closes. */
const registered = new WeakSet<Socket>();

/** An adapter takes care of this WebSocket. */
export function registerWebSocket(socket: Socket): void {
  registered.add(socket);
}

/** Whether an adapter takes care of a WebSocket. */
export function isRegistered(socket: Socket): boolean {
  return registered.has(socket);
}

/** A server has answered a client with `101 Switching Protocols`. */
type Observer = (request: IncomingMessage, socket: Socket, answer: string) => void;

let observe: Observer | undefined;

/** Calls `observer` for each WebSocket of a tracked server, before its server knows that it is open. */
export function observeWebSockets(observer: Observer): void {
  observe = observer;
}

let hasWarned = false;

/** Warns of WebSockets that do not move; once, as every look of a drain finds them. */
export function warnOfUnregistered(count: number): void {
  if (count === 0 || hasWarned) return;
  hasWarned = true;
  const message = `${count} unregistered WebSocket(s) do not move, and are closed with 1012 late in the drain: pass their server to webSockets() of handover/ws`;
  process.emitWarning(message, { code: "HANDOVER_WEBSOCKET" });
}

/**
 * The WebSockets of one HTTP server that no adapter takes care of: another library serves them, the program passes them on
 * to a backend, or their server was not given to `handover/ws`. Late in a drain they are closed with the code 1012, which
 * asks their clients to reconnect. Otherwise they would be cut at the deadline.
 */
export class UnregisteredWebSockets implements CloseStrategy {
  readonly #server: Server;
  /** Sockets of clients that have asked for a WebSocket, and were answered with 101: the registered ones, too. */
  readonly #open = new Set<Socket>();
  readonly #onClose = onClose((socket) => this.#open.delete(socket));
  /** In a drain: what the server writes on them. */
  #watched = new Map<Socket, WatchedWrites>();

  constructor(server: Server) {
    this.#server = server;
    server.on("newListener", this.#onNewListener).on("removeListener", this.#onRemoveListener);
    if (server.listenerCount("upgrade") > 0) this.#listen();
  }

  /** Those that are open. */
  get open(): Socket[] {
    return [...this.#open].filter((socket) => !registered.has(socket) && !socket.destroyed);
  }

  /** Sends the close frame; false if that is not safe now, or was done. */
  close(socket: Socket): boolean {
    return !isHeldOpen(socket) && this.#watched.get(socket)?.close() === true;
  }

  setClosing(closing: boolean): void {
    if (closing) return;
    for (const writes of this.#watched.values()) writes.stop();
    this.#watched = new Map();
  }

  /** Those whose client has been sent the close frame. At the second look it has had the time to answer. */
  idleConnections(): Map<Socket, string> {
    const before = this.#watched;
    this.#watched = new Map(
      this.open.map((socket) => [socket, before.get(socket)?.next() ?? new WatchedWrites(socket)]),
    );
    const closed = [...this.#watched].filter(([, { isClosed }]) => isClosed);
    return new Map(closed.map(([socket]) => [socket, ""]));
  }

  closeIdle(socket: Socket): void {
    socket.end();
  }

  dispose(): void {
    this.#server.removeListener("newListener", this.#onNewListener);
    this.#server.removeListener("removeListener", this.#onRemoveListener);
    this.#server.removeListener("upgrade", this.#onUpgrade);
  }

  /** Node upgrades connections if there is a listener, so this one must not be the only one. */
  readonly #onNewListener = (event: string | symbol, listener: unknown): void => {
    if (event === "upgrade" && listener !== this.#onUpgrade) this.#listen();
  };

  readonly #onRemoveListener = (event: string | symbol): void => {
    if (event === "upgrade" && this.#server.listenerCount("upgrade") === 1) {
      this.#server.removeListener("upgrade", this.#onUpgrade);
    }
  };

  #listen(): void {
    if (this.#server.listeners("upgrade").includes(this.#onUpgrade)) return;
    this.#server.prependListener("upgrade", this.#onUpgrade);
  }

  /** The first write begins the answer. */
  readonly #onUpgrade = (request: IncomingMessage, socket: Socket): void => {
    if (request.headers.upgrade?.toLowerCase() !== "websocket") return;
    let isFirst = true;
    const restore = wrapMember(socket, "write", (write) => (...args) => {
      // It stays where the program has wrapped the member since: to look at every write would take time.
      if (!isFirst) return write(...args);
      isFirst = false;
      restore();
      const answer = String(args[0]);
      if (answer.startsWith("HTTP/1.1 101 ")) {
        this.#open.add(socket.on("close", this.#onClose));
        observe?.(request, socket, answer);
      }
      return write(...args);
    });
  };
}
