import type { Socket } from "node:net";
import { wrapMember } from "../platform/node-internals.js";
import { FrameReader } from "./frame-reader.js";

/**
 * Finds out when a close frame can be sent on a WebSocket of an unknown library: in the middle of another frame the client
 * would take it for that frame's payload. A connection is between two frames if everything that was written on it
 * since the last look was whole frames, or if nothing was. A look is once a second.
 */
export class WatchedWrites {
  readonly #socket: Socket;
  readonly #restore: () => void;
  #frames = new FrameReader();
  #isQuiet = true;
  #isClosed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#restore = wrapMember(socket, "write", (write) => (...args) => {
      if (!this.#isClosed) {
        this.#read(args);
        return write(...args);
      }
      // Nothing may follow a close frame; the rest of a frame that it has cut would complete a wrong message.
      return discardWrite(args);
    });
  }

  /** Whether the close frame has been sent. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** A look has passed. Returns what watches from now on. */
  next(): WatchedWrites {
    this.#isQuiet = true;
    return this.#isInForce ? this : new WatchedWrites(this.#socket);
  }

  /** Sends the close frame; false if that is not safe, or was done. */
  close(): boolean {
    const { isValid, isBetweenFrames } = this.#frames;
    const isSafe = isBetweenFrames || (!isValid && this.#isQuiet);
    if (this.#isClosed || !this.#isInForce || !isSafe || !this.#socket.writable) return false;
    this.#socket.write(CLOSE_1012);
    this.#isClosed = true;
    return true;
  }

  /** The connection continues. */
  stop(): void {
    if (!this.#isClosed) this.#restore();
  }

  /** A program's adapter may have frozen the connection since, and returned it. */
  get #isInForce(): boolean {
    return Object.hasOwn(this.#socket, "write");
  }

  #read([chunk, encoding]: unknown[]): void {
    this.#isQuiet = false;
    if (!this.#frames.isValid) this.#frames = new FrameReader();
    this.#frames.read(
      typeof chunk === "string" ? Buffer.from(chunk, encoding as BufferEncoding) : (chunk as Uint8Array),
    );
  }
}

/** Discards a call of `write` or `end`, whose caller is told that it has succeeded. Returns the result of `write`. */
export function discardWrite(args: readonly unknown[]): true {
  const written = args.findLast((arg) => typeof arg === "function");
  if (written !== undefined) process.nextTick(written);
  return true;
}

/** A close frame without a mask, whose two bytes are 1012. It is never compressed. */
export const CLOSE_1012 = Buffer.from("880203f4", "hex");
