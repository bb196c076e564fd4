import { Server as HttpServer } from "node:http";
import { Socket, type Server } from "node:net";
import { Server as TlsServer } from "node:tls";
import { reasonOf } from "../errors.js";
import type { TakeResult } from "../exchange/exchange.js";
import type { Parcel } from "../exchange/parcel.js";
import { allowsHalfOpen, countConnection, joinServer, overrideMember } from "../platform/node-internals.js";
import { check, native } from "../platform/native.js";
import type { ConnectionAdapter, CloseStrategy } from "./adapter.js";
import { decodeFrozen } from "./wire-format.js";
import { Http1, speaksHttp1 } from "./http1.js";
import { Http2Sessions } from "./http2.js";
import { DormantConnections, type DormantConnection } from "./dormant.js";

/** The live connections of one server: those that it accepted, and those that it has adopted. */
export class TrackedServer {
  readonly server: Server;
  /** The name of its listener, by which the successor finds its own. */
  label: string;
  /** Over TLS, what the program sees. */
  readonly #secure = new Set<Socket>();
  readonly #adapters: () => readonly ConnectionAdapter[];
  readonly sockets = new Set<Socket>();
  readonly http1: Http1 | undefined;
  readonly http2: Http2Sessions;
  #dormant: DormantConnections | undefined;
  /** Dormant connections that are offered to the successor. */
  readonly #away = new Set<DormantConnection>();
  /** Dormant connections that are to close: all, or those that the successor does not take. */
  #closeDormant = false;
  readonly #staying = new Set<DormantConnection>();
  readonly #onEnd: () => void;

  /**
   * @param adapters of protocols besides HTTP/1.1; the list may grow
   * @param onEnd called when one connection has ended
   */
  constructor(
    server: Server,
    label: string,
    adapters: () => readonly ConnectionAdapter[],
    onEnd: () => void,
  ) {
    this.server = server;
    this.label = label;
    this.#onEnd = onEnd;
    const isTls = server instanceof TlsServer;
    this.http1 = speaksHttp1(server) ? new Http1(server) : undefined;
    this.http2 = new Http2Sessions(server);
    this.#adapters = adapters;
    server.prependListener("connection", this.#onConnection);
    if (isTls) server.prependListener("secureConnection", this.#onSecureConnection);
  }

  /** What its connections move by. TLS keeps its state in the process. */
  get adapters(): readonly ConnectionAdapter[] {
    if (this.server instanceof TlsServer) return [];
    return this.http1 === undefined ? this.#adapters() : [this.http1, ...this.#adapters()];
  }

  /** Asks the adapters to end a part of the connections, at most 1, in their protocol's own way. */
  closeFraction(part: number): void {
    const sockets = this.server instanceof TlsServer ? this.#secure : this.sockets;
    let left = Math.ceil(sockets.size * part);
    for (const socket of sockets) {
      if (left === 0) return;
      if (this.#adapters().some((adapter) => adapter.close?.(socket) === true)) left--;
    }
  }

  /** Adopted connections that have not spoken yet. */
  get dormant(): Iterable<DormantConnection> {
    return this.#dormant ?? [];
  }

  get size(): number {
    return this.sockets.size + (this.#dormant?.size ?? 0) + this.#away.size;
  }

  get closeStrategies(): readonly CloseStrategy[] {
    return [...(this.http1 === undefined ? [] : [this.http1]), this.http2, this.#dormantStrategy];
  }

  /** Takes a connection that the predecessor offers. */
  adopt({ body, version, fds }: Parcel): TakeResult {
    const { protocol, state, unread } = decodeFrozen(body);
    const adapters = this.adapters.filter(({ name }) => name === protocol);
    // Several WebSocket servers are adapters of one name.
    const adapter = adapters.find((one) => one.version === version);
    const [fd] = fds;
    if (adapters.length === 0 || fd === undefined) return { code: "ERR_NO_TAKER" };
    if (adapter === undefined) return { code: "ERR_VERSION" };
    const patience = unread === undefined ? adapter.idleTimeout?.(state) : undefined;
    if (patience !== undefined && this.#makeDormant({ fd, state, adapter }, patience)) return "taken";
    // Of a duplicate, as the descriptor of what is refused is not ours to close.
    const duplicate = check(native().duplicate(fd), "duplicate", "a connection");
    countConnection(this.server, 1);
    this.#attach(duplicate, state, adapter, unread);
    native().close(fd);
    return "taken";
  }

  /** Takes a dormant one away, to hand it on; false if it has left. */
  takeDormant(dormant: DormantConnection): boolean {
    if (this.#dormant?.remove(dormant) !== true) return false;
    this.#away.add(dormant);
    return true;
  }

  /** Puts it back, unless it was destroyed meanwhile. */
  returnDormant(dormant: DormantConnection): void {
    if (this.#away.delete(dormant)) this.#dormant!.add(dormant, dormant.adapter.idleTimeout!(dormant.state));
  }

  /** A dormant one does not move. */
  keep(dormant: DormantConnection): void {
    this.#staying.add(dormant);
  }

  /** A dormant one was taken by the successor, or is not waited for any more. */
  forget(dormant: DormantConnection): void {
    if (!this.#away.delete(dormant)) return;
    native().close(dormant.fd);
    countConnection(this.server, -1);
    this.#onEnd();
  }

  /** Those that are offered, too: the successor may never answer. */
  destroyAll(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#destroyDormant();
    for (const dormant of this.#away) this.forget(dormant);
  }

  dispose(): void {
    this.server.removeListener("connection", this.#onConnection);
    this.server.removeListener("secureConnection", this.#onSecureConnection);
    this.http1?.dispose();
    this.http2.dispose();
    this.#dormant?.close();
  }

  readonly #onConnection = (socket: Socket): void => {
    this.#track(socket);
    // Over TLS it counts twice, first without: it may never begin a handshake.
    this.http1?.add(socket);
  };

  readonly #onSecureConnection = (socket: Socket): void => {
    this.http1?.add(socket);
    this.#secure.add(socket);
    socket.once("close", () => this.#secure.delete(socket));
  };

  #track(socket: Socket): void {
    if (this.sockets.has(socket)) return;
    this.sockets.add(socket);
    socket.once("close", () => {
      this.sockets.delete(socket);
      this.#onEnd();
    });
  }

  #attach(fd: number, state: unknown, adapter: ConnectionAdapter, unread?: Uint8Array): void {
    const socket = new Socket({
      fd,
      readable: true,
      writable: true,
      allowHalfOpen: allowsHalfOpen(this.server),
    });
    joinServer(this.server, socket);
    if (unread !== undefined) socket.unshift(unread);
    this.#track(socket);
    try {
      adapter.thaw(socket, state, this.server);
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  #makeDormant(dormant: DormantConnection, patience: number): boolean {
    this.#dormant ??= this.#openDormant();
    if (this.#dormant === undefined) return false;
    this.#dormant.add(dormant, patience);
    countConnection(this.server, 1);
    return true;
  }

  /** What Node offers to close a server's connections has to reach those that Node does not know. */
  #openDormant(): DormantConnections | undefined {
    const dormant = DormantConnections.open({
      wake: (connection) => this.#wake(connection),
      expire: () => {
        countConnection(this.server, -1);
        this.#onEnd();
      },
    });
    if (dormant === undefined || !(this.server instanceof HttpServer)) return dormant;
    for (const name of ["closeIdleConnections", "closeAllConnections"] as const) {
      const close = this.server[name].bind(this.server);
      overrideMember(this.server, name, () => {
        this.#destroyDormant();
        close();
      });
    }
    return dormant;
  }

  /** Nobody can be asked any more whether it is taken: one connection is not worth the process. */
  #wake({ fd, state, adapter }: DormantConnection): void {
    try {
      this.#attach(fd, state, adapter);
    } catch (error) {
      const what = `a connection of the protocol ${adapter.name} is closed: its thaw threw`;
      process.emitWarning(`${what}: ${reasonOf(error)}`, { code: "HANDOVER_THAW" });
    }
  }

  #destroyDormant(): void {
    for (const dormant of this.dormant) this.#dormantStrategy.closeIdle(dormant);
  }

  readonly #dormantStrategy: CloseStrategy = {
    setClosing: (closing) => {
      this.#closeDormant = closing;
      if (!closing) this.#staying.clear();
    },
    idleConnections: () => {
      const closable = [...this.dormant].filter(
        (dormant) => this.#closeDormant || this.#staying.has(dormant),
      );
      return new Map(closable.map((dormant) => [dormant, ""]));
    },
    closeIdle: (dormant) => {
      if (this.takeDormant(dormant as DormantConnection)) this.forget(dormant as DormantConnection);
    },
  };
}
