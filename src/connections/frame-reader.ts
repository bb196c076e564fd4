/** Reads the frames that a WebSocket server writes, from a byte that is believed to begin one. */
export class FrameReader {
  #head: number[] = [];
  /** Bytes that the frame's payload still lacks. */
  #missing = 0;
  #isValid = true;

  /** Whether everything that was read is whole frames. */
  get isBetweenFrames(): boolean {
    return this.#isValid && this.#missing === 0 && this.#head.length === 0;
  }

  /** False if no server writes such frames: the first byte did not begin one. */
  get isValid(): boolean {
    return this.#isValid;
  }

  read(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length && this.#isValid) {
      const skipped = Math.min(this.#missing, chunk.length - at);
      this.#missing -= skipped;
      at += skipped;
      if (skipped === 0) this.#readHead(chunk[at++]!);
    }
  }

  /** A server sets no mask. The first reserved bit says that a message is compressed. */
  #readHead(byte: number): void {
    this.#head.push(byte);
    const [first = 0, second, ...length] = this.#head;
    this.#isValid = (first & 0x30) === 0 && OPCODES.has(first & 0x0f) && ((second ?? 0) & 0x80) === 0;
    if (second === undefined || length.length < (EXTENDED.get(second) ?? 0)) return;
    this.#missing = length.length === 0 ? second : length.reduce((sum, one) => sum * 256 + one, 0);
    this.#head = [];
  }
}

/** Continuation, text, binary, close, ping, pong. */
const OPCODES = new Set([0, 1, 2, 8, 9, 10]);

/** Bytes of the longer lengths, by the short length that announces them. */
const EXTENDED = new Map([
  [126, 2],
  [127, 8],
]);
