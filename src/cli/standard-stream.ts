import { writeSync } from "node:fs";
import type { WriteStream } from "node:tty";
import { native, POLL, type Native } from "../platform/native.js";

/**
 * stdout or stderr. What a file or a pipe takes at once is written without Node's stream, whose modules take a fifth of the time in
 * which Node starts. The stream writes the rest: to a terminal, to a pipe that is full, and where there is no addon.
 */
class StandardStream {
  readonly #fd: 1 | 2;
  /** As long as nothing was written by the stream, which would be overtaken. */
  #addon: Native | undefined;
  #isTerminal: boolean | undefined;
  #stream: WriteStream | undefined;
  #isBroken = false;
  #onBroken = (): void => {};

  constructor(fd: 1 | 2) {
    this.#fd = fd;
  }

  /** Writes in the order of the calls, without waiting. What cannot be written is lost: the work must not stop half done. */
  write(text: string): void {
    const rest = this.#isDirect() ? this.#writeAtOnce(Buffer.from(text)) : text;
    if (rest.length > 0 && !this.#isBroken) this.open().write(rest);
  }

  /** The terminal that it is; undefined of a file or a pipe. */
  get terminal(): WriteStream | undefined {
    if (this.#isDirect()) return undefined;
    const stream = this.open();
    return stream.isTTY ? stream : undefined;
  }

  /** Whether nothing is left to write. */
  get isDone(): boolean {
    return this.#stream === undefined;
  }

  /** Calls `listener` when nothing more can be written: no process reads it any longer. */
  onBroken(listener: () => void): void {
    this.#onBroken = listener;
  }

  /** Node's stream, whose errors are ignored: a reader that closes early, as `head` does, must not stop the work half done. */
  open(): WriteStream {
    if (this.#stream === undefined) {
      this.#stream = this.#fd === 1 ? process.stdout : process.stderr;
      this.#stream.on("error", () => this.#break());
    }
    return this.#stream;
  }

  #isDirect(): boolean {
    if (this.#stream !== undefined) return false;
    try {
      this.#addon ??= native();
      return !(this.#isTerminal ??= this.#addon.isTerminal(this.#fd));
    } catch {
      return false;
    }
  }

  /** @returns the bytes that are left */
  #writeAtOnce(text: Uint8Array): Uint8Array {
    let rest = text;
    try {
      while (rest.length > 0 && this.#addon!.poll(this.#fd, POLL.writable, 0) > 0)
        rest = rest.subarray(writeSync(this.#fd, rest, 0, Math.min(rest.length, ATOMIC)));
    } catch (error) {
      // Another process has filled the pipe meanwhile.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") this.#break();
    }
    return rest;
  }

  #break(): void {
    this.#isBroken = true;
    this.#onBroken();
  }
}

/** Bytes that a pipe takes without blocking if it can be written to. */
const ATOMIC = 4_096;

export const stdout = new StandardStream(1);
export const stderr = new StandardStream(2);
