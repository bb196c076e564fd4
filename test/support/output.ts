import { readSync } from "node:fs";
import type { Readable } from "node:stream";
import { StringDecoder } from "node:string_decoder";

/** What processes write to one pipe. */
export class Output {
  readonly #stream: Readable;
  readonly #decoder = new StringDecoder("utf8");
  readonly #onText: (text: string) => void;

  /** @param onText is told of each piece of text, once and in order */
  constructor(stream: Readable, onText: (text: string) => void) {
    this.#stream = stream;
    this.#onText = onText;
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
  }

  /**
   * Reads at once all that has been written so far. The event loop reads pipes in an order of its own: a test that has the
   * answer to a request may not have the line yet that the process printed before it answered.
   */
  read(): void {
    // Bytes that the stream has read already come first. The stream hands them to the listener.
    if (this.#stream.readableLength > 0) this.#stream.read();
    const { _handle: handle } = this.#stream as unknown as { _handle: { fd: number } | null };
    if (handle === null || handle.fd < 0) return;
    const buffer = Buffer.allocUnsafe(65_536);
    for (let length: number; (length = readWaiting(handle.fd, buffer)) > 0;) {
      this.#take(buffer.subarray(0, length));
    }
  }

  #take(chunk: Buffer): void {
    this.#onText(this.#decoder.write(chunk));
  }
}

/** Reads what waits in a descriptor that does not block. At the end of the stream, too, it is nothing. */
function readWaiting(fd: number, buffer: Buffer): number {
  try {
    return readSync(fd, buffer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return 0;
    throw error;
  }
}
