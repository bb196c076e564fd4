import type { Socket } from "node:net";
import {
  descriptorOf,
  overrideMember,
  startReading,
  stopReading,
  stopTimeout,
} from "../platform/node-internals.js";

type FailureHandler = (member: "write" | "end", error: unknown) => void;

/**
 * A connection that neither reads nor writes nor times out, while its move is undecided. The program's writes wait: they
 * are made if the connection stays, and discarded if it moves, as the next process continues from the state that was
 * frozen before.
 */
export class PausedSocket {
  /** Its descriptor. */
  readonly fd: number;
  readonly #socket: Holding;
  /** Text, where the socket has an encoding. */
  readonly #taken: Uint8Array | string | undefined;
  /** Made for the first one. */
  #heldWrites: { member: "write" | "end"; args: unknown[] }[] | undefined;
  readonly #failed: FailureHandler;
  #hasMoved = false;

  /** @param failed called if a write that waited throws when it is made, as one of a wrong type does */
  constructor(socket: Socket, failed: FailureHandler) {
    this.#failed = failed;
    this.fd = descriptorOf(socket);
    this.#socket = socket;
    stopReading(socket);
    stopTimeout(socket);
    this.#taken = takeUnread(socket);
    this.#socket[HOLDER] = this;
    socket.write = holdWrite;
    socket.end = holdEnd;
  }

  /** Bytes that were read from it and not consumed. */
  get unread(): Uint8Array | undefined {
    const taken = this.#taken;
    return typeof taken === "string" ? Buffer.from(taken, this.#socket.readableEncoding!) : taken;
  }

  /** The connection stays: it reads, and its writes are made. */
  resume(): void {
    const socket = this.#socket;
    if (!socket.destroyed) {
      if (this.#taken !== undefined) socket.unshift(this.#taken, socket.readableEncoding ?? undefined);
      socket.setTimeout(socket.timeout ?? 0);
      startReading(socket);
    }
    delete (socket as Partial<Socket>).write;
    delete (socket as Partial<Socket>).end;
    delete socket[HOLDER];
    this.#replayWrites();
  }

  /**
   * The connection has moved: the callbacks of its writes are called with an error. The socket keeps the members that
   * {@link hold} serves: to delete them would make V8 keep all its members in a table, which for thousands of sockets takes
   * a quarter of a move.
   */
  discard(): void {
    this.#hasMoved = true;
    this.#socket.destroy();
    this.#replayWrites();
  }

  /** The connection has moved. False if writes wait: call {@link discard}. Else a write or an end closes the socket. */
  leave(): boolean {
    this.#hasMoved = this.#heldWrites === undefined;
    return this.#hasMoved;
  }

  /** @internal A call of the socket's `write` or `end`. */
  hold(member: "write" | "end", args: unknown[]): unknown {
    if (this.#hasMoved) {
      this.#socket.destroy();
      return this.#call(member, args);
    }
    (this.#heldWrites ??= []).push({ member, args });
    return member === "write" ? true : this.#socket;
  }

  /** The inherited member. */
  #call(member: "write" | "end", args: unknown[]): unknown {
    const inherited = Object.getPrototypeOf(this.#socket) as Record<
      typeof member,
      (...args: unknown[]) => unknown
    >;
    return inherited[member].apply(this.#socket, args);
  }

  #replayWrites(): void {
    for (const { member, args } of this.#heldWrites ?? []) {
      try {
        // By its own member, if the program has given it one meanwhile.
        if (this.#hasMoved) this.#call(member, args);
        else (this.#socket[member] as (...args: unknown[]) => unknown)(...args);
      } catch (error) {
        this.#failed(member, error);
      }
    }
  }
}

/** A socket while it is paused, and after it has moved. */
interface Holding extends Socket {
  [HOLDER]?: PausedSocket;
}

const HOLDER = Symbol("paused");

/*
 * The same two functions for all sockets, and assigned: to define members with a closure for each of thousands of sockets would
 * take longer than all else that pauses them. A program that lists the members of a paused socket sees them.
 */
const holdWrite = function (this: Holding, ...args: unknown[]): unknown {
  return this[HOLDER]!.hold("write", args);
} as Socket["write"];
const holdEnd = function (this: Holding, ...args: unknown[]): unknown {
  return this[HOLDER]!.hold("end", args);
} as Socket["end"];

/** Reads without the events `data` and `end`: the program must not see bytes that move. */
function takeUnread(socket: Socket): Uint8Array | string | undefined {
  if (socket.readableLength === 0) return undefined;
  overrideMember(socket, "emit", () => false);
  const unread = socket.read() as Uint8Array | string;
  delete (socket as Partial<Socket>).emit;
  return unread;
}
