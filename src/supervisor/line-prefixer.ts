/** Puts a prefix before each line of a stream. A line that is longer than {@link LONGEST} is divided. */
export class LinePrefixer {
  readonly #prefix: Buffer;
  /** The line that has not ended yet. */
  #rest: Buffer = Buffer.alloc(0);

  constructor(prefix: string) {
    this.#prefix = Buffer.from(prefix);
  }

  /** The lines that have ended, each with the prefix. */
  add(chunk: Uint8Array): Uint8Array {
    const bytes = Buffer.concat([this.#rest, chunk]);
    const parts: Uint8Array[] = [];
    let start = 0;
    for (let end = lineEnd(bytes, start); end !== undefined; end = lineEnd(bytes, start)) {
      parts.push(this.#prefix, bytes.subarray(start, end));
      if (bytes[end - 1] !== NEWLINE) parts.push(NEWLINES);
      start = end;
    }
    this.#rest = bytes.subarray(start);
    return Buffer.concat(parts);
  }

  /** The stream has ended: its last line, which has no end. */
  end(): Uint8Array {
    if (this.#rest.length === 0) return this.#rest;
    return Buffer.concat([this.#prefix, this.#rest, NEWLINES]);
  }
}

/** The end of the line that begins at `start`, its newline included; undefined if it is not known yet. */
function lineEnd(bytes: Buffer, start: number): number | undefined {
  const newline = bytes.indexOf(NEWLINE, start);
  const end = newline < 0 ? bytes.length : newline + 1;
  if (end - start <= LONGEST) return newline < 0 ? undefined : end;
  let cut = start + LONGEST;
  // Not within a character of UTF-8.
  for (let n = 0; n < 3 && (bytes[cut]! & 0xc0) === 0x80; n++) cut--;
  return cut;
}

const NEWLINE = 0x0a;

const NEWLINES = Buffer.of(NEWLINE);

/** Bytes of a line. */
const LONGEST = 65_536;
