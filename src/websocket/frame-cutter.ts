import type { Socket } from "node:net";
import { startReading, stopReading, overrideMember } from "../platform/node-internals.js";
import { bytesMissing, receiverOf, type Receiver, type WebSocketLike } from "./ws-internals.js";

/**
 * Brings a WebSocket to rest whose client is always in the middle of a frame. The WebSocket gets the bytes that its frame
 * still needs and no more, piece by piece, until it is quiet; later bytes stay unread, and move along.
 */
export class FrameCutter {
  readonly #socket: Socket;
  readonly #receiver: Receiver;
  readonly #isQuiet: () => boolean;
  readonly #rested: () => void;
  /** Bytes that the WebSocket has not got yet. */
  #pending: Buffer = Buffer.alloc(0);
  #isFeeding = false;
  #isHolding = false;

  /** Begins at once. `rested` is called when the connection is quiet; from then on nothing is read from it. */
  constructor(ws: WebSocketLike, socket: Socket, isQuiet: () => boolean, rested: () => void) {
    this.#socket = socket;
    this.#receiver = receiverOf(ws);
    this.#isQuiet = isQuiet;
    this.#rested = rested;
    overrideMember(this.#receiver, "write", (chunk: Buffer) => {
      // The program may have resumed the socket.
      this.#isHolding = false;
      this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
      this.#feed();
      return false;
    });
  }

  /** Whether there are bytes that neither the WebSocket nor the socket has. */
  get isPending(): boolean {
    return this.#pending.length > 0;
  }

  /** The connection continues as before. */
  stop(): void {
    const { socket, receiver } = { socket: this.#socket, receiver: this.#receiver };
    delete (receiver as Partial<Receiver>).write;
    if (socket.destroyed) return;
    if (this.isPending && !receiver.writableEnded) receiver.write(this.#pending);
    this.#pending = Buffer.alloc(0);
    if (this.#isHolding) startReading(socket);
    receiver.emit("drain");
  }

  #feed(): void {
    if (this.#isFeeding || this.#receiver.writableEnded) return;
    if (this.#isQuiet() && this.#pending.length <= MAX_UNREAD) return this.#hold();
    if (!this.isPending) return void this.#receiver.emit("drain");
    const piece = this.#pending.subarray(0, bytesMissing(this.#receiver));
    this.#pending = this.#pending.subarray(piece.length);
    this.#isFeeding = true;
    const { prototype } = this.#receiver.constructor as { prototype: Receiver };
    prototype.write.call(this.#receiver, piece, (error) => {
      this.#isFeeding = false;
      if (!error && Object.hasOwn(this.#receiver, "write")) this.#feed();
    });
  }

  #hold(): void {
    this.#isHolding = true;
    this.#socket.pause();
    stopReading(this.#socket);
    if (this.isPending) this.#socket.unshift(this.#pending);
    this.#pending = Buffer.alloc(0);
    this.#rested();
  }
}

/** Bytes; more would make a batch of connections larger than a message. */
const MAX_UNREAD = 24 * 1024;
