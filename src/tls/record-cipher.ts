import type { CipherKey } from "node:crypto";
import { builtins } from "../platform/builtins.js";
import { native, type NativeRecordCipher } from "../platform/native.js";
import type { CipherSuite } from "./cipher-suites.js";
import { DATA, HEADER, OVERHEAD, TAG } from "./record-format.js";

/**
 * Seals or opens the records of one direction with one key. It counts nothing: the caller never gives a sequence number to
 * {@link seal} twice.
 */
export interface RecordCipher {
  /**
   * Seals bytes in records of at most `largest` bytes each, one record if there are none; the first has the number `sequence`, and
   * those behind it the next ones. The pieces to send.
   */
  seal(type: number, plain: Uint8Array, largest: number, sequence: number): Buffer[];
  /**
   * The plaintext of the record from `from` to `to`, with its type and padding. It may be in the place of the record.
   *
   * @throws {Error} its tag is wrong
   */
  open(bytes: Buffer, from: number, to: number, sequence: number): Buffer;
  /** Erases the key. */
  forget(): void;
}

/** The number of records that so many bytes take. */
export function recordsOf(length: number, largest: number): number {
  return Math.max(1, Math.ceil(length / largest));
}

/** The key and the IV stay the caller's. */
export function createRecordCipher(
  suite: CipherSuite,
  key: Buffer,
  iv: Buffer,
  use: "seal" | "open",
): RecordCipher {
  return isNativeRight() ? new NativeCipher(suite, key, iv, use) : new ScriptCipher(suite, key, iv);
}

/** By the addon: one call for all records of a write, where `node:crypto` makes several objects for each record. */
class NativeCipher implements RecordCipher {
  readonly #cipher: NativeRecordCipher;

  constructor({ cipher }: CipherSuite, key: Buffer, iv: Buffer, use: "seal" | "open") {
    this.#cipher = new (native().RecordCipher!)(cipher, key, iv, use === "seal");
  }

  seal(type: number, plain: Uint8Array, largest: number, sequence: number): Buffer[] {
    const pieces: Buffer[] = [];
    const step = largest * Math.max(1, Math.floor(PIECE / largest));
    for (let from = 0, next = sequence; from === 0 || from < plain.length; from += step) {
      const part = from === 0 && plain.length <= step ? plain : plain.subarray(from, from + step);
      const records = recordsOf(part.length, largest);
      const piece = Buffer.allocUnsafe(part.length + records * OVERHEAD);
      requireSize(this.#cipher.seal(type, part, largest, next, piece), piece.length, "seal");
      pieces.push(piece);
      next += records;
    }
    return pieces;
  }

  open(bytes: Buffer, from: number, to: number, sequence: number): Buffer {
    const length = to - from - HEADER - TAG;
    requireSize(this.#cipher.open(bytes, from, to, sequence), length, "open");
    return bytes.subarray(from + HEADER, from + HEADER + length);
  }

  forget(): void {
    this.#cipher.forget();
  }
}

function requireSize(size: number, expected: number, doing: string): void {
  if (size !== expected) throw new Error(`cannot ${doing} a record (${size})`);
}

/** By `node:crypto`, where the addon does not find OpenSSL. */
class ScriptCipher implements RecordCipher {
  /** To ask for the module takes as long as to encrypt a small record. */
  readonly #crypto = builtins.crypto;
  readonly #name: "aes-128-gcm";
  readonly #iv: Buffer;
  readonly #nonce: Buffer;
  #key: CipherKey | undefined;

  constructor({ cipher }: CipherSuite, key: Buffer, iv: Buffer) {
    // The types do not know that all of them are of one kind.
    this.#name = cipher as "aes-128-gcm";
    this.#iv = Buffer.from(iv);
    this.#nonce = Buffer.from(iv);
    this.#key = this.#crypto.createSecretKey(key);
  }

  seal(type: number, plain: Uint8Array, largest: number, sequence: number): Buffer[] {
    const pieces: Buffer[] = [];
    const records = recordsOf(plain.length, largest);
    for (let n = 0; n < records; n++) {
      const part = plain.subarray(n * largest, (n + 1) * largest);
      const header = Buffer.from([DATA, 3, 3, 0, 0]);
      header.writeUInt16BE(part.length + 1 + TAG, 3);
      const sealing = this.#crypto.createCipheriv(
        this.#name,
        this.#key!,
        this.#nonceOf(sequence + n),
        OPTIONS,
      );
      sealing.setAAD(header);
      // The ciphertext is not copied into one piece with its header and its tag.
      pieces.push(header, sealing.update(part), sealing.update(Uint8Array.of(type)));
      sealing.final();
      pieces.push(sealing.getAuthTag());
    }
    // To write several small pieces takes longer than to copy them.
    return plain.length > COPIED ? pieces : [Buffer.concat(pieces)];
  }

  open(bytes: Buffer, from: number, to: number, sequence: number): Buffer {
    const body = bytes.subarray(from + HEADER, to);
    const end = body.length - TAG;
    const nonce = this.#nonceOf(sequence);
    const opening = this.#crypto.createDecipheriv(this.#name, this.#key!, nonce, OPTIONS);
    opening.setAAD(bytes.subarray(from, from + HEADER));
    opening.setAuthTag(body.subarray(end));
    const inner = opening.update(body.subarray(0, end));
    opening.final();
    return inner;
  }

  /** Keys of `node:crypto` are erased when they are collected. */
  forget(): void {
    this.#key = undefined;
    this.#iv.fill(0);
    this.#nonce.fill(0);
  }

  #nonceOf(sequence: number): Buffer {
    const [high, low] = [Math.floor(sequence / 2 ** 32), sequence >>> 0];
    this.#nonce.writeUInt32BE((this.#iv.readUInt32BE(4) ^ high) >>> 0, 4);
    this.#nonce.writeUInt32BE((this.#iv.readUInt32BE(8) ^ low) >>> 0, 8);
    return this.#nonce;
  }
}

/**
 * Whether the addon seals and opens as `node:crypto` does, which is tested once: with another OpenSSL than the tested ones it would
 * otherwise break every connection.
 */
function isNativeRight(): boolean {
  return native().RecordCipher !== undefined && (verdict ??= SUITES.every(doBothAgree));
}

let verdict: boolean | undefined;

function doBothAgree([cipher, keyLength]: readonly [CipherSuite["cipher"], number]): boolean {
  const suite: CipherSuite = { cipher, keyLength, hash: "sha256", hashLength: 32 };
  const [key, iv, plain] = [keyLength, 12, 3_000].map((length) => Buffer.alloc(length, length));
  const ciphers: RecordCipher[] = [];
  try {
    const [sealing, opening] = (["seal", "open"] as const).map(
      (use) => new NativeCipher(suite, key!, iv!, use),
    );
    const script = new ScriptCipher(suite, key!, iv!);
    ciphers.push(sealing!, opening!, script);
    // Three records, whose numbers take more than 32 bits in the end.
    const first = 2 ** 32 - 2;
    const sealed = Buffer.concat(sealing!.seal(DATA, plain!, 1_024, first));
    if (!sealed.equals(Buffer.concat(script.seal(DATA, plain!, 1_024, first)))) return false;
    const inner = opening!.open(sealed, 0, 1_024 + OVERHEAD, first);
    return inner.subarray(0, 1_024).equals(plain!.subarray(0, 1_024)) && inner[1_024] === DATA;
  } catch {
    return false;
  } finally {
    for (const one of ciphers) one.forget();
  }
}

const SUITES = [
  ["aes-128-gcm", 16],
  ["aes-256-gcm", 32],
  ["chacha20-poly1305", 32],
] as const;

const OPTIONS = { authTagLength: TAG };

/** Bytes of plaintext, at most, whose records are sent in one piece. */
const COPIED = 4_096;

/** Bytes of plaintext in one sealed piece, at most: malloc(3) gets larger ones from the system each time. */
const PIECE = 65_536;
