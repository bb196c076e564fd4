import { writeSync } from "node:fs";
import type { Socket, SocketConstructorOpts } from "node:net";
import type { Server as TlsServer, TLSSocket } from "node:tls";
import type { RefusalCode } from "../errors.js";
import { MovedTlsSocket } from "./moved-tls-socket.js";
import { RecordLayer } from "./record-layer.js";
import { RecordWatch } from "./record-watch.js";
import { decodeSecure } from "./secure-state.js";
import { testTls, type TestFailure } from "./self-test.js";

/**
 * The record layers of the connections of one TLS server: between their descriptors and their protocol. Those that this
 * process has accepted are in OpenSSL, those that it has adopted are here.
 */
export class SecureConnections {
  readonly #server: TlsServer;
  readonly #watch: RecordWatch;
  #test: Promise<void> | undefined;
  #verdict: "untested" | "works" | "fails" = "untested";

  constructor(server: TlsServer) {
    this.#server = server;
    this.#watch = new RecordWatch(server);
  }

  dispose(): void {
    this.#watch.dispose();
  }

  /** Tests whether connections of this Node and this certificate can move: once, and again after a failure that may pass. */
  prepare(): Promise<void> {
    if (this.#test !== undefined) return this.#test;
    this.#verdict = "untested";
    return (this.#test = testTls(this.#server).then((failure) => this.#onTested(failure)));
  }

  /** Why a connection does not move; "busy" if it may move later, undefined if it can move now. */
  obstacle(socket: Socket): RefusalCode | "busy" | undefined {
    if (socket instanceof MovedTlsSocket) return socket.isFlushed ? undefined : "busy";
    if (this.#verdict === "fails") return "ERR_TLS_SELF_TEST";
    const obstacle = this.#watch.obstacle(socket as TLSSocket);
    return obstacle ?? (this.#verdict === "works" ? undefined : "busy");
  }

  /** Where a connection stands that does not read, with its secrets: the caller erases them. Undefined if it cannot move now. */
  freeze(socket: Socket): Buffer | undefined {
    return socket instanceof MovedTlsSocket ? socket.freeze() : this.#watch.freeze(socket as TLSSocket);
  }

  /** A socket for an adopted connection; its descriptor is the socket's. `frozen` stays the caller's. */
  thaw(frozen: Uint8Array, options: SocketConstructorOpts): Socket {
    return new MovedTlsSocket(decodeSecure(frozen), options);
  }

  #onTested(failure: TestFailure | undefined): void {
    this.#verdict = failure === undefined ? "works" : "fails";
    if (failure === undefined) return;
    if (failure.mayPass) this.#test = undefined;
    // Those that have moved here still move: their records need no counting.
    else this.#watch.dispose();
    const message = `the connections of a TLS server do not move, and drain instead: ${failure.reason}`;
    process.emitWarning(message, { code: "HANDOVER_TLS" });
  }
}

/** Whether anything was sent on a connection since it was thawed: the process before must not continue it. */
export function hasSent(socket: Socket): boolean {
  return socket instanceof MovedTlsSocket && socket.hasSealed;
}

/** Whether a protocol has got nothing of a connection since it was thawed, although bytes of it may have been read. */
export function hasGivenNothing(socket: Socket): boolean {
  return socket instanceof MovedTlsSocket && !socket.hasGiven;
}

/** Tells the client of a frozen connection that it ends, without a socket for it. */
export function sendCloseNotify(fd: number, frozen: Uint8Array): void {
  let layer: RecordLayer | undefined;
  try {
    const state = decodeSecure(frozen);
    layer = new RecordLayer(state.suite, state, NOTHING);
    writeSync(fd, Buffer.concat(layer.closeNotify()));
  } catch {
    // Its client has left, or does not read. Or what the predecessor has sent is damaged.
  } finally {
    layer?.forget();
  }
}

const NOTHING = { data: () => {}, end: () => {} };
