import type { Socket } from "node:dgram";
import type { Server } from "node:net";
import { constants } from "node:os";
import type { HandoverError } from "../errors.js";
import { getSystemErrorMap } from "node:util";
import { overrideMember } from "../platform/node-internals.js";
import { socketIo } from "../socketio/index.js";
import { unclaimedSockets, Upgrader } from "../upgrader.js";
import type { ListenWish } from "./listen-arguments.js";
import type { BindWish } from "./bind-arguments.js";
import type { FoundServer, FoundSocketIo } from "./found-socket-io.js";
import { findWebSockets } from "./found-web-sockets.js";
import { readAutoOptions } from "./options.js";
import type { PendingServer } from "./pending-server.js";
import type { PendingSocket } from "./pending-socket.js";
import type { ProgramExit } from "./program-exit.js";

/** The servers of a program that does not know of handover, and the Upgrader that was made for it. */
export class AutoUpgrader {
  readonly #upg: Upgrader;
  readonly #servers = new Set<Server>();
  readonly #sockets = new Set<Socket>();
  /** Calls of `listen()` and `bind()` that are not answered yet. */
  #pending = 0;
  #quiet: NodeJS.Timeout | undefined;
  readonly #isManual: boolean;
  /** ms */
  readonly #upgradeTimeout: number;

  /** @param isDeclared whether the program has called `ready()` already */
  constructor(exit: ProgramExit, servers: FoundSocketIo, isDeclared: boolean) {
    const { options, moveWebSockets } = readAutoOptions(process.env, process.argv[1] ?? process.cwd());
    this.#upgradeTimeout = options.upgradeTimeout ?? Infinity;
    this.#isManual = process.env["HANDOVER_READY"] === "manual" && !isDeclared;
    const signals = { upgrade: "SIGHUP" as const, ...options.signals, stop: [] };
    this.#upg = new Upgrader({ ...options, signals });
    findWebSockets(this.#upg, moveWebSockets);
    servers.onFound((server) => this.#register(server, moveWebSockets));
    exit.take(() => void this.#upg.stop());
    void this.#upg.exit.then(() => {
      for (const server of this.#servers) if (!server.listening) closeAgain(server);
      for (const socket of this.#sockets) closeAgain(socket);
      exit.end();
    });
  }

  /** With `connectionStateRecovery` a program says that it keeps in a socket's rooms and data what it knows of a client. */
  #register(server: FoundServer, isAsked: boolean): void {
    if (!isAsked && server.opts?.connectionStateRecovery === undefined) return;
    try {
      socketIo(this.#upg, server);
    } catch {
      // A server without WebSockets, or of another version: its clients connect again.
    }
  }

  /** Declares the program initialized, in place of the wait for a quiet moment. */
  async ready(): Promise<void> {
    clearTimeout(this.#quiet);
    await this.#upg.ready();
  }

  /** Does what Node's `listen()` does, on a listener of the service. An error is the server's event. */
  async listen(server: Server, options: ListenWish["options"], begun: PendingServer): Promise<void> {
    this.#servers.add(server);
    this.#pending++;
    clearTimeout(this.#quiet);
    begun.begin();
    try {
      // A program may wait for the event `listening` before it continues.
      await this.#upg.listen(server, { ...options, early: true });
      begun.end();
      if (begun.isClosed) server.close();
    } catch (error) {
      begun.end();
      server.emit("error", asNodeError(error as HandoverError, options));
    } finally {
      this.#pending--;
      this.#awaitQuiet();
    }
  }

  /** Does what Node's `bind()` does, on a socket of the service. An error is the socket's event. */
  async bind(socket: Socket, options: BindWish["options"], begun: PendingSocket): Promise<void> {
    this.#sockets.add(socket);
    this.#pending++;
    clearTimeout(this.#quiet);
    try {
      await this.#upg.bind(socket, { ...options, early: true });
      begun.end();
      if (begun.isClosed) socket.close();
    } catch (error) {
      this.#sockets.delete(socket);
      begun.fail(asBindError(error as HandoverError, options, socket));
    } finally {
      this.#pending--;
      this.#awaitQuiet();
    }
  }

  /** ms. A worker inherits sockets of other workers, too. */
  get #quietTime(): number {
    const isIncomplete = this.#upg.worker === undefined && unclaimedSockets(this.#upg).length > 0;
    return isIncomplete ? Math.min(INCOMPLETE, this.#upgradeTimeout / 2) : QUIET;
  }

  #awaitQuiet(): void {
    if (this.#isManual || this.#pending > 0 || this.#upg.state !== "starting") return;
    const time = this.#upg.generation === 0 ? 0 : this.#quietTime;
    this.#quiet = setTimeout(() => {
      void this.#upg.ready().catch((error: unknown) => process.emitWarning(error as Error));
    }, time);
  }
}

/** The program closes its servers and sockets when it ends. They are closed by then, and Node would call that an error. */
function closeAgain(one: Server | Socket): void {
  const close = (callback?: () => void): Server | Socket => {
    if (callback !== undefined) process.nextTick(callback);
    return one;
  };
  overrideMember(one, "close", close as never);
}

/** The error that Node emits for the address of a datagram socket. */
function asBindError(error: HandoverError, { port, address }: BindWish["options"], socket: Socket): Error {
  const cause = (error.cause ?? error) as NodeJS.ErrnoException;
  const { code, errno } = cause;
  if (code === undefined || errno === undefined || cause.syscall === "getaddrinfo") return cause;
  const any = (socket as Socket & { type: string }).type === "udp4" ? "0.0.0.0" : "::";
  const where = address ?? any;
  const node = new Error(`bind ${code} ${where}:${port}`, { cause: error });
  return Object.assign(node, { code, errno, syscall: "bind", address: where, port });
}

/** The error that Node emits for an address that cannot be bound. */
function asNodeError(error: HandoverError, { port, host, path }: ListenWish["options"]): Error {
  const cause = (error.cause ?? error) as NodeJS.ErrnoException;
  // As libuv says it of the path of a socket.
  const { code, errno } = path !== undefined && cause.code === "ENOENT" ? EACCES : cause;
  // A host that has no address: the error is Node's own.
  if (code === undefined || errno === undefined || cause.syscall === "getaddrinfo") return cause;
  const address = path ?? host ?? "::";
  const where = path ?? `${address}:${port}`;
  const [, meaning] = getSystemErrorMap().get(errno) ?? [];
  const node = new Error(`listen ${code}: ${meaning} ${where}`, { cause: error });
  return Object.assign(node, { code, errno, syscall: "listen", address, port: port ?? -1 });
}

const EACCES = { code: "EACCES", errno: -constants.errno.EACCES };

/** ms without a call of `listen()` after which a successor counts as initialized. */
const QUIET = 100;

/** The same while it has not opened all that its predecessor had: a new version may do without, and the others are late. */
const INCOMPLETE = 5_000;
