import type { Socket } from "node:net";
import {
  descriptorOf,
  pauseHandle,
  startReading,
  stopTimeout,
  wrapMember,
} from "../platform/node-internals.js";
import { MemberCover } from "../util/member-cover.js";

type FailureHandler = (member: "write" | "end", error: unknown) => void;

/**
 * A connection that neither reads nor writes nor times out, while its move is undecided. The program's writes wait: they
 * are made if the connection stays, and discarded if it moves, as the next process continues from the state that was
 * frozen before.
 */
export class PausedSocket {
  /** Its descriptor. */
  readonly fd: number;
  readonly #socket: Socket;
  /** Text, where the socket has an encoding. */
  readonly #taken: Uint8Array | string | undefined;
  /** Made for the first one. */
  #heldWrites: { member: "write" | "end"; args: unknown[] }[] | undefined;

  constructor(socket: Socket) {
    this.fd = descriptorOf(socket);
    this.#socket = socket;
    held.cover(socket);
    pauseHandle(socket);
    stopTimeout(socket);
    this.#taken = takeUnread(socket);
    paused.set(socket, this);
  }

  /** Bytes that were read from it and not consumed. */
  get unread(): Uint8Array | undefined {
    const taken = this.#taken;
    return typeof taken === "string" ? Buffer.from(taken, this.#socket.readableEncoding!) : taken;
  }

  /**
   * The connection stays: it reads, and its writes are made.
   *
   * @param failed called if a write that waited throws when it is made, as one of a wrong type does
   */
  resume(failed: FailureHandler): void {
    const socket = this.#socket;
    if (!socket.destroyed) {
      // A listener that gets the bytes at once may write: after the writes that wait.
      if (this.#taken !== undefined) socket.unshift(this.#taken, socket.readableEncoding ?? undefined);
      socket.setTimeout(socket.timeout ?? 0);
    }
    paused.delete(socket);
    held.uncover(socket);
    if (!socket.destroyed) startReading(socket);
    for (const { member, args } of this.#heldWrites ?? []) {
      try {
        // By the program's own member, if the socket has one.
        (socket[member] as (...args: unknown[]) => unknown)(...args);
      } catch (error) {
        failed(member, error);
      }
    }
  }

  /** The connection has moved: the callbacks of its writes are called with an error. The socket still holds its writes. */
  discard(failed: FailureHandler): void {
    const socket = this.#socket;
    paused.delete(socket);
    socket.destroy();
    for (const { member, args } of this.#heldWrites ?? []) {
      try {
        callInherited(socket, member, args);
      } catch (error) {
        failed(member, error);
      }
    }
  }

  /** The connection has moved. False if writes wait: call {@link discard}. Else a write or an end closes the socket. */
  leave(): boolean {
    if (this.#heldWrites !== undefined) return false;
    paused.delete(this.#socket);
    return true;
  }

  /** @internal A call of the socket's `write` or `end`. */
  hold(member: "write" | "end", args: unknown[]): unknown {
    (this.#heldWrites ??= []).push({ member, args });
    return member === "write" ? true : this.#socket;
  }
}

/** Those whose move is undecided. */
const paused = new Map<Socket, PausedSocket>();

/** The members of a socket while it is paused, and after its connection has moved. */
const held = new MemberCover<Socket>({
  write(this: Socket, ...args: unknown[]): boolean {
    return holdOrCall(this, "write", args) as boolean;
  },
  end(this: Socket, ...args: unknown[]): Socket {
    return holdOrCall(this, "end", args) as Socket;
  },
  // A stream that is flowing would start again by itself.
  _read(): void {},
});

/** A program may call the member that it has taken from a paused socket when the socket has resumed. */
function holdOrCall(socket: Socket, member: "write" | "end", args: unknown[]): unknown {
  const holder = paused.get(socket);
  if (holder !== undefined) return holder.hold(member, args);
  // Its connection has moved.
  if (held.isOn(socket)) socket.destroy();
  return callInherited(socket, member, args);
}

function callInherited(socket: Socket, member: "write" | "end", args: unknown[]): unknown {
  const inherited = held.inherited(socket)[member] as (...args: unknown[]) => unknown;
  return inherited.apply(socket, args);
}

/** Reads without the events `data` and `end`: the program must not see bytes that move. */
function takeUnread(socket: Socket): Uint8Array | string | undefined {
  if (socket.readableLength === 0) return undefined;
  const restoreEmit = wrapMember(socket, "emit", () => () => false);
  const unread = socket.read() as Uint8Array | string;
  restoreEmit();
  return unread;
}
