import type { CipherSuite } from "./cipher-suites.js";
import { expandLabel } from "./key-schedule.js";
import { createRecordCipher, recordsOf, type RecordCipher } from "./record-cipher.js";

/** Where a direction of a connection stands: its traffic secret, and the number of its next record. */
export interface TrafficState {
  readonly secret: Buffer;
  readonly sequence: number;
}

/**
 * The keys of one direction of a connection. Each sequence number is used once: to seal two different records with one
 * would give away the plaintext of both.
 */
export class RecordKeys {
  readonly #suite: CipherSuite;
  readonly #use: "seal" | "open";
  #secret: Buffer;
  #sequence: number;
  #cipher: RecordCipher;

  /** The secret is this object's from now on. */
  constructor(suite: CipherSuite, { secret, sequence }: TrafficState, use: "seal" | "open") {
    this.#suite = suite;
    this.#use = use;
    this.#secret = secret;
    this.#sequence = sequence;
    this.#cipher = this.#derive();
  }

  /** Records that were sealed or opened with the present key. */
  get sequence(): number {
    return this.#sequence;
  }

  /** A copy, which is the caller's. */
  get state(): TrafficState {
    return { secret: Buffer.from(this.#secret), sequence: this.#sequence };
  }

  /** The next generation of keys: RFC 8446, 7.2. */
  update(): void {
    const next = expandLabel(this.#suite, this.#secret, "traffic upd", NOTHING, this.#suite.hashLength);
    this.#secret.fill(0);
    this.#secret = next;
    this.#sequence = 0;
    this.#cipher.forget();
    this.#cipher = this.#derive();
  }

  /** Seals bytes in records of at most `largest` bytes each, one record if there are none; the pieces to send. */
  seal(type: number, plain: Uint8Array, largest: number): Buffer[] {
    return this.#cipher.seal(type, plain, largest, this.#next(recordsOf(plain.length, largest)));
  }

  /**
   * The plaintext of the record from `from` to `to`, with its type and padding. It may be in the place of the record.
   *
   * @throws {Error} its tag is wrong
   */
  open(bytes: Buffer, from: number, to: number): Buffer {
    return this.#cipher.open(bytes, from, to, this.#next(1));
  }

  /** The connection has ended here. */
  forget(): void {
    this.#secret.fill(0);
    this.#cipher.forget();
  }

  #derive(): RecordCipher {
    const suite = this.#suite;
    const key = expandLabel(suite, this.#secret, "key", NOTHING, suite.keyLength);
    const iv = expandLabel(suite, this.#secret, "iv", NOTHING, NONCE);
    try {
      return createRecordCipher(suite, key, iv, this.#use);
    } finally {
      key.fill(0);
      iv.fill(0);
    }
  }

  /** Takes the numbers before they are used: a failure in between uses them up. */
  #next(count: number): number {
    const sequence = this.#sequence;
    this.#sequence += count;
    return sequence;
  }
}

const NOTHING = Buffer.alloc(0);

/** Bytes of a nonce, and of the IV that it is made of. */
const NONCE = 12;
