import type { CipherSuite } from "./cipher-suites.js";
import { exportKeys } from "./key-schedule.js";
import { ALERT, DATA, HANDSHAKE, HEADER, LARGEST, TAG } from "./record-format.js";
import { RecordKeys } from "./record-keys.js";
import type { SecureState } from "./secure-state.js";
import { ALERTS, TlsAlert } from "./tls-alert.js";

interface RecordListener {
  /** Plaintext of the client. */
  data(plain: Buffer): void;
  /** The client sends no more. */
  end(): void;
}

/**
 * The record layer of TLS 1.3 after the handshake (RFC 8446, 5), on the side of the server. It knows where it stands: so a
 * connection moves from it at any moment, also in the middle of a record.
 */
export class RecordLayer {
  readonly #suite: CipherSuite;
  readonly #receiving: RecordKeys;
  readonly #sending: RecordKeys;
  #exporter: Buffer | undefined;
  readonly #listener: RecordListener;
  /** Bytes of plaintext in one sent record, at most. */
  #largest: number;
  /** What the client takes, at most. */
  readonly #limit: number;
  /** The beginning of a record. */
  #half: Buffer | undefined;
  /**
   * Whether the client waits for new keys of this side. It gets them before the next data: a client that asks again and again,
   * and reads nothing, would otherwise fill the memory with answers.
   */
  #owesUpdate: boolean;
  /** Records without data since the last one with data. */
  #idle = 0;
  #isEnded = false;
  #hasGiven = false;
  #hasSealed = false;

  /** The secrets of `state` are this object's from now on. */
  constructor(suite: CipherSuite, state: SecureState, listener: RecordListener) {
    this.#suite = suite;
    this.#receiving = new RecordKeys(suite, state.receiving, "open");
    this.#sending = new RecordKeys(suite, state.sending, "seal");
    this.#exporter = state.exporter;
    this.#largest = state.largestRecord;
    this.#limit = state.recordLimit;
    this.#half = state.halfRecord;
    this.#owesUpdate = state.owesUpdate;
    this.#listener = listener;
  }

  /** Whether anything was sealed: to continue from an earlier state would use a sequence number again. */
  get hasSealed(): boolean {
    return this.#hasSealed;
  }

  /** Whether the listener has got any data. */
  get hasGiven(): boolean {
    return this.#hasGiven;
  }

  /** Whether nothing more is read: the client has said so, or broke the protocol. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Where this layer stands, with copies of its secrets, which are the caller's. */
  get position(): Omit<SecureState, "facts" | "peerCertificates"> {
    return {
      suite: this.#suite,
      receiving: this.#receiving.state,
      sending: this.#sending.state,
      exporter: this.#exporter && Buffer.from(this.#exporter),
      largestRecord: this.#largest,
      recordLimit: this.#limit,
      halfRecord: this.#half,
      owesUpdate: this.#owesUpdate,
    };
  }

  /** As OpenSSL does, it sends no larger ones than the client takes. */
  set largestRecord(size: number) {
    this.#largest = Math.min(size, this.#limit);
  }

  /**
   * Reads what the client has sent, and overwrites it. The listener is called for each record in turn. If it throws, the next call
   * begins with the record after that one.
   *
   * @throws {TlsAlert} the client broke the protocol, or has sent an alert; call {@link alert} for the former
   */
  receive(chunk: Buffer): void {
    const bytes = this.#half === undefined ? chunk : Buffer.concat([this.#half, chunk]);
    this.#half = undefined;
    let at = 0;
    try {
      while (!this.#isEnded && bytes.length - at >= HEADER) {
        const [from, end] = [at, at + HEADER + lengthOf(bytes, at)];
        if (end > bytes.length) break;
        at = end;
        this.#open(bytes, from, end);
      }
    } finally {
      // A copy: a few bytes would otherwise keep a whole chunk.
      if (!this.#isEnded && at < bytes.length) this.#half = Buffer.from(bytes.subarray(at));
    }
  }

  /** Seals data, in as many records as it takes; the pieces to send. */
  seal(plain: Uint8Array): Buffer[] {
    const renewal = this.#owesUpdate || this.#sending.sequence >= RENEW_AFTER ? this.#renewSending() : [];
    return [...renewal, ...this.#seal(DATA, plain)];
  }

  /** The last record of this side. */
  closeNotify(): Buffer[] {
    return this.#seal(ALERT, Uint8Array.of(WARNING, ALERTS.closeNotify));
  }

  /** Tells the client how it broke the protocol. */
  alert({ description }: TlsAlert): Buffer[] {
    this.#isEnded = true;
    return this.#seal(ALERT, Uint8Array.of(FATAL, description));
  }

  /** @throws {Error} there is no secret for it, or an argument is wrong */
  exportKeyingMaterial(length: number, label: string, context: NodeJS.ArrayBufferView): Buffer {
    if (this.#exporter === undefined) throw new Error("this connection has no exporter secret");
    return exportKeys(this.#suite, this.#exporter, label, context, length);
  }

  /** Erases the secrets: the connection has moved or ended. */
  forget(): void {
    this.#isEnded = true;
    this.#receiving.forget();
    this.#sending.forget();
    this.#exporter?.fill(0);
    // Keys of an erased secret could be guessed.
    this.#exporter = undefined;
  }

  #open(bytes: Buffer, from: number, to: number): void {
    const inner = this.#decrypt(bytes, from, to);
    let last = inner.length - 1;
    while (last >= 0 && inner[last] === 0) last--;
    if (last < 0) throw new TlsAlert(ALERTS.unexpectedMessage, "a record has no type");
    if (last > LARGEST) throw new TlsAlert(ALERTS.recordOverflow, "a record is too long");
    const type = inner[last]!;
    const plain = inner.subarray(0, last);
    // Many of them would be work for nothing. OpenSSL has the same limit.
    this.#idle = type === DATA && last > 0 ? 0 : this.#idle + 1;
    if (this.#idle > IDLE) throw new TlsAlert(ALERTS.unexpectedMessage, "too many records without data");
    if (type === DATA) this.#receiveData(plain);
    else if (type === ALERT) this.#receiveAlert(plain);
    else if (type === HANDSHAKE) this.#receiveHandshake(plain);
    else throw new TlsAlert(ALERTS.unexpectedMessage, `a record has the type ${type}`);
  }

  #decrypt(bytes: Buffer, from: number, to: number): Buffer {
    try {
      return this.#receiving.open(bytes, from, to);
    } catch {
      throw new TlsAlert(ALERTS.badRecordMac, "a record cannot be decrypted");
    }
  }

  /**
   * In memory of its own, as Node gives it to a program: with `postMessage` that may give the memory away, and the records behind
   * this one with it.
   */
  #receiveData(plain: Buffer): void {
    if (plain.length === 0) return;
    this.#hasGiven = true;
    const own = Buffer.allocUnsafeSlow(plain.length);
    own.set(plain);
    this.#listener.data(own);
  }

  #receiveAlert(alert: Uint8Array): void {
    if (alert.length !== 2) throw new TlsAlert(ALERTS.decodeError, "an alert has a wrong length");
    const description = alert[1]!;
    if (description === ALERTS.userCanceled) return;
    this.#isEnded = true;
    if (description === ALERTS.closeNotify) this.#listener.end();
    else throw new ReceivedAlert(description);
  }

  /** A client may send a KeyUpdate, and nothing else. Its new keys are in force from the next record on. */
  #receiveHandshake(message: Uint8Array): void {
    const [type, ...rest] = message;
    const request = rest[3] ?? NaN;
    const isKeyUpdate = type === KEY_UPDATE && message.length === 5 && rest[2] === 1 && request <= 1;
    if (!isKeyUpdate) throw new TlsAlert(ALERTS.unexpectedMessage, `a client sent a message of type ${type}`);
    this.#receiving.update();
    if (request === 1) this.#owesUpdate = true;
  }

  #renewSending(): Buffer[] {
    this.#owesUpdate = false;
    const sealed = this.#seal(HANDSHAKE, Uint8Array.of(KEY_UPDATE, 0, 0, 1, 0));
    this.#sending.update();
    return sealed;
  }

  #seal(type: number, plain: Uint8Array): Buffer[] {
    this.#hasSealed = true;
    return this.#sending.seal(type, plain, this.#largest);
  }
}

/** The client ends the connection for an error of its own, or of this side: it is sent nothing. */
export class ReceivedAlert extends TlsAlert {
  constructor(description: number) {
    super(description, `the client sent the alert ${description}`);
  }
}

/** @throws {TlsAlert} it is no record of an established connection */
function lengthOf(bytes: Buffer, at: number): number {
  if (bytes[at] !== DATA || bytes[at + 1] !== 3) {
    throw new TlsAlert(ALERTS.unexpectedMessage, `a record has the outer type ${bytes[at]}`);
  }
  const length = bytes.readUInt16BE(at + 3);
  if (length > LARGEST + 256) throw new TlsAlert(ALERTS.recordOverflow, "a record is too long");
  if (length < 1 + TAG) throw new TlsAlert(ALERTS.badRecordMac, "a record is too short");
  return length;
}

const KEY_UPDATE = 24;
const [WARNING, FATAL] = [1, 2];

/** Records without data in a row, at most. */
const IDLE = 32;

/** Records after which the sending keys are renewed: RFC 8446, 5.5, allows 2^24.5 with AES-GCM. */
const RENEW_AFTER = 2 ** 23;
