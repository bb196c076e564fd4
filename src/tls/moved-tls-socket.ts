import { Socket, type SocketConstructorOpts } from "node:net";
import type { CipherNameAndProtocol, PeerCertificate, TLSSocket } from "node:tls";
import { HandoverError } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import { writeQueueSize } from "../platform/node-internals.js";
import { keepFromParser } from "../platform/tls-internals.js";
import { peerCertificate } from "./peer-certificate.js";
import { LARGEST } from "./record-format.js";
import { ReceivedAlert, RecordLayer } from "./record-layer.js";
import { encodeSecure, type SecureFacts, type SecureState } from "./secure-state.js";
import { TlsAlert } from "./tls-alert.js";

/**
 * A TLS connection that has moved to this process. For a program it is a `tls.TLSSocket`: what can only be answered by
 * OpenSSL's own session is undefined, or throws `ERR_NOT_SUPPORTED`.
 */
export class MovedTlsSocket extends Socket {
  readonly encrypted = true;
  readonly secureConnecting = false;
  readonly alpnProtocol: string | false | null;
  readonly servername: string | false;
  readonly authorized: boolean;
  readonly authorizationError: string | null;
  readonly #facts: SecureFacts;
  readonly #peerCertificates: readonly Buffer[];
  readonly #layer: RecordLayer;
  /** What `push` of the layer's plaintext returned last. */
  #wantsMore = true;

  /** The secrets of `state` are this object's from now on. */
  constructor(state: SecureState, options: SocketConstructorOpts) {
    becomeTlsSocket();
    super(options);
    const { facts, peerCertificates } = state;
    this.#facts = facts;
    this.#peerCertificates = peerCertificates;
    this.alpnProtocol = facts.alpnProtocol;
    this.servername = facts.servername;
    this.authorized = facts.authorized;
    this.authorizationError = facts.authorizationError;
    this.#layer = new RecordLayer(state.suite, state, {
      data: (plain) => (this.#wantsMore = super.push(plain)),
      end: () => (this.#wantsMore = super.push(null)),
    });
    keepFromParser(this);
    this.once("close", () => this.#layer.forget());
  }

  /** Whether this process has sent anything on it. */
  get hasSealed(): boolean {
    return this.#layer.hasSealed;
  }

  /** Whether its program has got any data of it in this process. */
  get hasGiven(): boolean {
    return this.#layer.hasGiven;
  }

  /** Whether the kernel has everything that was sealed. */
  get isFlushed(): boolean {
    return this.writableLength === 0 && writeQueueSize(this) === 0;
  }

  /** Where the connection stands, with secrets: the caller erases them. Undefined if it is not flushed. */
  freeze(): Buffer | undefined {
    if (!this.isFlushed || this.#layer.isEnded) return undefined;
    const { position } = this.#layer;
    const state = { ...position, facts: this.#facts, peerCertificates: this.#peerCertificates };
    const bytes = encodeSecure(state);
    position.receiving.secret.fill(0);
    position.sending.secret.fill(0);
    position.exporter?.fill(0);
    return bytes;
  }

  /** net.Socket gives here what it has read. */
  override push(chunk: Buffer | null): boolean {
    if (chunk === null) return super.push(null);
    if (this.#layer.isEnded) return false;
    this.#wantsMore = true;
    try {
      this.#layer.receive(chunk);
    } catch (error) {
      // Listeners of the program run in this call: an exception of theirs does not end the connection.
      if (!(error instanceof TlsAlert)) throw error;
      this.#fail(error);
      return false;
    }
    return this.#wantsMore;
  }

  override _write(
    chunk: Uint8Array | string,
    encoding: BufferEncoding,
    done: (error?: Error | null) => void,
  ): void {
    const plain = typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk;
    this.#write(this.#layer.seal(plain), done);
  }

  override _writev(
    chunks: { chunk: Uint8Array | string; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    const parts = chunks.map(({ chunk, encoding }) =>
      typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk,
    );
    this.#write(this.#layer.seal(Buffer.concat(parts)), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    if (!this.#canSend) return super._final(done);
    this.#write(this.#layer.closeNotify(), () => super._final(done));
  }

  #write(sealed: Buffer[], done: (error?: Error | null) => void): void {
    const encoding = "buffer" as BufferEncoding;
    if (sealed.length === 1) return super._write(sealed[0]!, encoding, done);
    const chunks = sealed.map((chunk) => ({ chunk, encoding }));
    // By this property net.Socket knows that there are no strings among them.
    super._writev!(Object.assign(chunks, { allBuffers: true }), done);
  }

  get #canSend(): boolean {
    return !this.destroyed && !this.writableFinished && (this as { _handle?: unknown })._handle != null;
  }

  /** The alert passes the stream's queue: it is sealed already, and what the queue holds is not. */
  #fail(error: TlsAlert): void {
    if (!(error instanceof ReceivedAlert)) {
      const sealed = this.#layer.alert(error);
      if (this.#canSend) this.#write(sealed, () => {});
    }
    // Node would discard an alert that is on its way.
    setImmediate(() => this.destroy(error));
  }

  getProtocol(): string {
    return "TLSv1.3";
  }

  getCipher(): CipherNameAndProtocol {
    return { ...this.#facts.cipher };
  }

  isSessionReused(): boolean {
    return this.#facts.isReused;
  }

  getPeerX509Certificate(): InstanceType<typeof import("node:crypto").X509Certificate> | undefined {
    const [own] = this.#peerCertificates;
    return own === undefined ? undefined : new builtins.crypto.X509Certificate(own);
  }

  getPeerCertificate(detailed = false): PeerCertificate {
    return peerCertificate(this.#peerCertificates, detailed);
  }

  exportKeyingMaterial(length: number, label: string, context: Buffer = Buffer.alloc(0)): Buffer {
    return this.#layer.exportKeyingMaterial(length, label, context);
  }

  setMaxSendFragment(size: number): boolean {
    if (!(size >= 512 && size <= LARGEST)) return false;
    this.#layer.largestRecord = Math.trunc(size);
    return true;
  }

  disableRenegotiation(): void {}

  getSession(): undefined {}

  getTLSTicket(): undefined {}

  getFinished(): undefined {}

  getPeerFinished(): undefined {}

  getEphemeralKeyInfo(): null {
    return null;
  }
}

/**
 * Makes the class one of `tls.TLSSocket`, whose constructor it does not call. Members that it has not would ask OpenSSL for a
 * session that does not exist.
 */
function becomeTlsSocket(): void {
  if (isTlsSocket) return;
  isTlsSocket = true;
  const { prototype } = builtins.tls.TLSSocket as unknown as { prototype: TLSSocket };
  const own = MovedTlsSocket.prototype as unknown as Record<string, unknown>;
  for (const name of Object.getOwnPropertyNames(prototype)) {
    if (Object.hasOwn(own, name)) continue;
    const value = (): never => {
      throw new HandoverError(
        "ERR_NOT_SUPPORTED",
        `cannot call ${name}() of a TLS connection that has moved`,
      );
    };
    Object.defineProperty(own, name, { value, configurable: true, writable: true, enumerable: false });
  }
  Object.setPrototypeOf(own, prototype);
}

let isTlsSocket = false;
