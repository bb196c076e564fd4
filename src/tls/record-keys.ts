import type { KeyObject } from "node:crypto";
import { builtins } from "../platform/builtins.js";
import type { CipherSuite } from "./cipher-suites.js";
import { expandLabel } from "./key-schedule.js";
import { DATA, HEADER, TAG } from "./record-format.js";

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
  readonly #nonce = Buffer.alloc(12);
  /** To ask for the module takes as long as to encrypt a small record. */
  readonly #crypto = builtins.crypto;
  #secret: Buffer;
  #sequence: number;
  #key!: KeyObject;
  #low = 0;
  #middle = 0;

  /** The secret is this object's from now on. */
  constructor(suite: CipherSuite, { secret, sequence }: TrafficState) {
    this.#suite = suite;
    this.#secret = secret;
    this.#sequence = sequence;
    this.#derive();
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
    this.#derive();
  }

  /** Appends a record to `parts`: its ciphertext is not copied into one piece with its header and its tag. */
  seal(type: number, plain: Uint8Array, parts: Buffer[]): void {
    const header = Buffer.allocUnsafe(HEADER);
    header[0] = DATA;
    header[1] = header[2] = 3;
    header.writeUInt16BE(plain.length + 1 + TAG, 3);
    const { cipher } = this.#suite;
    const sealing = this.#crypto.createCipheriv(cipher as "aes-128-gcm", this.#key, this.#next(), OPTIONS);
    sealing.setAAD(header);
    parts.push(header, sealing.update(plain), sealing.update(Uint8Array.of(type)));
    sealing.final();
    parts.push(sealing.getAuthTag());
  }

  /**
   * The plaintext of a record, with its type and padding.
   *
   * @throws {Error} its tag is wrong
   */
  open(header: Uint8Array, body: Uint8Array): Buffer {
    const end = body.length - TAG;
    const { cipher } = this.#suite;
    const opening = this.#crypto.createDecipheriv(cipher as "aes-128-gcm", this.#key, this.#next(), OPTIONS);
    opening.setAAD(header);
    opening.setAuthTag(body.subarray(end));
    const inner = opening.update(body.subarray(0, end));
    opening.final();
    return inner;
  }

  /** The connection has ended here. Keys of `node:crypto` are erased when they are collected. */
  forget(): void {
    this.#secret.fill(0);
    this.#nonce.fill(0);
    this.#key = undefined!;
  }

  #derive(): void {
    const suite = this.#suite;
    const key = expandLabel(suite, this.#secret, "key", NOTHING, suite.keyLength);
    this.#key = this.#crypto.createSecretKey(key);
    key.fill(0);
    const iv = expandLabel(suite, this.#secret, "iv", NOTHING, this.#nonce.length);
    iv.copy(this.#nonce);
    this.#middle = iv.readUInt32BE(4);
    this.#low = iv.readUInt32BE(8);
    iv.fill(0);
  }

  #next(): Buffer {
    const sequence = this.#sequence++;
    this.#nonce.writeUInt32BE((this.#middle ^ Math.floor(sequence / 2 ** 32)) >>> 0, 4);
    this.#nonce.writeUInt32BE((this.#low ^ (sequence >>> 0)) >>> 0, 8);
    return this.#nonce;
  }
}

const NOTHING = Buffer.alloc(0);
const OPTIONS = { authTagLength: TAG };
