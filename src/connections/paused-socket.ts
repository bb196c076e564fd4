import type { Socket } from "node:net";
import {
  descriptorOf,
  overrideMember,
  ownInherited,
  startReading,
  stopReading,
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
  readonly #socket: Socket;
  /** Text, where the socket has an encoding. */
  readonly #taken: Uint8Array | string | undefined;
  readonly #timeout: number;
  readonly #heldWrites: { member: "write" | "end"; call: () => void }[] = [];
  readonly #failed: FailureHandler;

  /** @param failed called if a write that waited throws when it is made, as one of a wrong type does */
  constructor(socket: Socket, failed: FailureHandler) {
    this.#failed = failed;
    this.fd = descriptorOf(socket);
    this.#socket = socket;
    this.#timeout = socket.timeout ?? 0;
    stopReading(socket);
    socket.setTimeout(0);
    this.#taken = takeUnread(socket);
    overrideMember(socket, "write", ((...args: Parameters<Socket["write"]>) => {
      this.#heldWrites.push({ member: "write", call: () => void socket.write(...args) });
      return true;
    }) as Socket["write"]);
    overrideMember(socket, "end", ((...args: Parameters<Socket["end"]>) => {
      this.#heldWrites.push({ member: "end", call: () => void socket.end(...args) });
      return socket;
    }) as Socket["end"]);
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
      socket.setTimeout(this.#timeout);
      startReading(socket);
    }
    delete (socket as Partial<Socket>).write;
    delete (socket as Partial<Socket>).end;
    this.#replayWrites();
  }

  /** The connection has moved: the callbacks of its writes are called with an error. */
  discard(): void {
    this.#socket.destroy();
    ownInherited(this.#socket, "write");
    ownInherited(this.#socket, "end");
    this.#replayWrites();
  }

  #replayWrites(): void {
    for (const { member, call } of this.#heldWrites) {
      try {
        call();
      } catch (error) {
        this.#failed(member, error);
      }
    }
  }
}

/** Reads without the events `data` and `end`: the program must not see bytes that move. */
function takeUnread(socket: Socket): Uint8Array | string | undefined {
  if (socket.readableLength === 0) return undefined;
  overrideMember(socket, "emit", () => false);
  const unread = socket.read() as Uint8Array | string;
  delete (socket as Partial<Socket>).emit;
  return unread;
}
