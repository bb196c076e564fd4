import type { TLSSocket } from "node:tls";
import {
  asksForCertificate,
  countParsed,
  countReads,
  ignoreWrites,
  secureStreams,
  watchFragments,
  watchWrites,
  type FragmentWatcher,
  type RecordCount,
  type WriteWatcher,
} from "../platform/tls-internals.js";
import { largestRecordOf } from "./max-fragment.js";
import { LARGEST, OVERHEAD } from "./record-format.js";

/** The numbers of the next records, or why they are not known; "unsent": not all that was written has been sent. */
type Position = { receiving: number; sending: number } | "unsent" | "reading" | "writing" | "certificate";

/**
 * How many records a connection of Node's own TLS has received and sent, which OpenSSL does not say. The bytes that were
 * read are those of the client's handshake and of its records, and each record takes 22 bytes besides its plaintext. So a
 * count of the records can be checked by arithmetic: half a record, padding, and every message that is not data
 * adds to the sum. The records that were sent follow from the bytes alone, as the server sends nothing but data.
 */
export class RecordCounts implements RecordCount, WriteWatcher, FragmentWatcher {
  /** Received ones. */
  records = 0;
  /** At the last look: received bytes beyond those of the counted records. */
  excess = 0;
  readonly #socket: TLSSocket;
  /** Ciphertext: read at the end of the ClientHello, and written at the end of the server's handshake. */
  #hello = 0;
  #flight = 0;
  /** Ciphertext that was written before the program's first record; undefined until it is known. */
  #base: number | undefined;
  /** Records that the program has written before that. */
  #early = 0;
  #fragment: number | undefined;
  /** Bytes that are neither data nor overhead of a counted record, once they have been found to be exact. */
  #surplus: number | undefined;
  /** At the event `secureConnection`: the ciphertext that was read. */
  #readAtHandshake = 0;
  #first: { surplus: number; plain: number; records: number } | undefined;
  #padding = 0;

  constructor(socket: TLSSocket) {
    this.#socket = socket;
  }

  /** The client can send no more before it has the server's answer. */
  onClientHello(): void {
    this.#hello = secureStreams(this.#socket)?.cipher.bytesRead ?? NaN;
  }

  /** The client has answered all that the server had sent. */
  onClientFinished(): void {
    this.#flight = secureStreams(this.#socket)?.cipher.bytesWritten ?? NaN;
  }

  /** The event `secureConnection`, before its other listeners. */
  onSecure(): void {
    const socket = this.#socket;
    const streams = secureStreams(socket);
    // A listener that ran before has used the connection: its records were not counted.
    if (streams === undefined || streams.plain.bytesWritten > 0 || streams.plain.bytesRead > 0) return;
    this.#readAtHandshake = streams.cipher.bytesRead;
    countReads(socket, this);
    watchFragments(socket, this);
    watchWrites(socket, this);
    setImmediate(MEASURE_FIRST, this);
  }

  onFragment(size: number): void {
    this.#fragment = size;
  }

  beforeWrite(): void {
    if (this.#early === 0 && (secureStreams(this.#socket)?.plain.bytesRead ?? 0) > 0) this.#measureBase();
  }

  afterWrite(bytes: number): void {
    if (this.#base === undefined) this.#early += Math.ceil(bytes / LARGEST);
  }

  /** After the listeners of `secureConnection`. */
  onAccepted(): void {
    countParsed(this.#socket, this);
  }

  /** Bytes of plaintext in one sent record, at most; and of one that the client takes. */
  get largestRecord(): [size: number, limit: number] {
    const limit = largestRecordOf(this.#socket);
    return [Math.min(this.#fragment ?? LARGEST, limit), limit];
  }

  /** @param hashLength of the connection's suite */
  position(hashLength: number): Position {
    const socket = this.#socket;
    const streams = secureStreams(socket);
    if (streams === undefined) return "reading";
    const { plain, cipher } = streams;
    if (socket.writableLength > 0 || plain.writeQueueSize > 0 || cipher.writeQueueSize > 0) return "unsent";
    if (!this.#knowsBase()) return "writing";
    const reading = this.#checkReading(hashLength);
    if (reading !== undefined) return reading;
    const written = (cipher.bytesWritten - this.#base! - plain.bytesWritten) / OVERHEAD;
    if (!Number.isInteger(written) || written < 0) return "writing";
    return { receiving: this.records, sending: this.#tickets + written };
  }

  /** A number that stays the same as long as the client sends nothing. */
  get mark(): number {
    return secureStreams(this.#socket)?.cipher.bytesRead ?? 0;
  }

  /**
   * OpenSSL writes the session tickets after the handshake. They are either in its outgoing buffer, or handed to the
   * descriptor as a whole.
   */
  #measureBase(): void {
    const streams = secureStreams(this.#socket);
    if (streams === undefined || this.#base !== undefined) return;
    const { plain, cipher } = streams;
    const waiting = cipher.bytesWritten === this.#flight ? plain.writeQueueSize : 0;
    this.#base = cipher.bytesWritten + waiting;
    ignoreWrites(this.#socket);
  }

  measureFirst(): void {
    const streams = secureStreams(this.#socket);
    if (streams === undefined) return;
    if (this.#early === 0) this.#measureBase();
    const { bytesRead } = streams.plain;
    this.#first = { surplus: this.#sum, plain: bytesRead, records: this.records };
  }

  /**
   * A program that writes before anything was read does so before the tickets are written. Its records are counted until all
   * is out, which is only possible if none was cut at another size.
   */
  #knowsBase(): boolean {
    if (this.#base !== undefined) return true;
    const streams = secureStreams(this.#socket);
    if (streams === undefined || this.#early === 0 || this.#first === undefined) return false;
    if (this.largestRecord[0] !== LARGEST) return false;
    const { plain, cipher } = streams;
    this.#base = cipher.bytesWritten - plain.bytesWritten - OVERHEAD * this.#early;
    ignoreWrites(this.#socket);
    return true;
  }

  /** Two for a new session, one for a resumed one: a rule of OpenSSL that Node does not let a program change. */
  get #tickets(): number {
    if (this.#base === this.#flight) return 0;
    return this.#socket.isSessionReused() ? 1 : 2;
  }

  /** Received bytes that are neither plaintext nor the overhead of a counted record. */
  get #sum(): number {
    const streams = secureStreams(this.#socket);
    if (streams === undefined) return NaN;
    return streams.cipher.bytesRead - streams.plain.bytesRead - OVERHEAD * this.records;
  }

  /** Undefined if exactly the counted records were read. */
  #checkReading(hashLength: number): "reading" | "certificate" | undefined {
    // The client's Finished: a record with a message of four bytes and a hash.
    const handshake = this.#hello + OVERHEAD + 4 + hashLength;
    this.#noticePadding(handshake);
    const surplus = this.#sum - handshake - this.#padding * (this.records + 1);
    this.excess = surplus;
    if (this.#needsTwoRequests && this.#surplus === undefined) {
      if (!this.#isCertain(surplus + handshake)) return "certificate";
      this.#surplus = surplus;
    }
    if (this.#surplus === undefined && SURPLUSES.includes(surplus)) this.#surplus = surplus;
    return surplus === this.#surplus ? undefined : "reading";
  }

  /** Java pads each record, its Finished too. That is believed if it was so in the beginning, and is so now. */
  #noticePadding(handshake: number): void {
    const first = this.#first;
    if (this.#padding > 0 || this.#surplus !== undefined || first === undefined) return;
    if (this.records <= first.records) return;
    const without = (sum: number, records: number): number => sum - handshake - JAVA * (records + 1);
    const now = without(this.#sum, this.records);
    if (SURPLUSES.includes(now) && now === without(first.surplus, first.records)) this.#padding = JAVA;
  }

  /** Nothing says how long a client's certificate is, and its proof. */
  get #needsTwoRequests(): boolean {
    return asksForCertificate(this.#socket) && !this.#socket.isSessionReused();
  }

  /** Half a record that was there at the first look, and is there still, has kept its plaintext back. */
  #isCertain(sum: number): boolean {
    const { plain } = secureStreams(this.#socket)!;
    if (plain.bytesRead > 0 && sum === this.#readAtHandshake) return true;
    return this.#first !== undefined && plain.bytesRead > this.#first.plain && sum === this.#first.surplus;
  }
}

/** The same for all connections. */
const MEASURE_FIRST = (counts: RecordCounts): void => counts.measureFirst();

/** A client may send a ChangeCipherSpec, which means nothing: of 6 bytes. */
const SURPLUSES = [0, 6];

/** Bytes of padding in each record of Java's TLS. */
const JAVA = 16;
