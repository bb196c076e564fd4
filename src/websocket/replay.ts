import { IncomingMessage, type Server } from "node:http";
import { Socket } from "node:net";
import type { Handover } from "../connections/adapter.js";
import { CLOSE_1012, discardWrite } from "../connections/watched-writes.js";
import { HandoverError } from "../errors.js";
import { setHeaders, overrideMember } from "../platform/node-internals.js";

/** The state that moves with a WebSocket. */
export interface Handshake {
  method: string;
  url: string;
  httpVersion: string;
  rawHeaders: string[];
  /** The headers of the answer that chose subprotocol and compression: the replay must choose the same. */
  agreement: string[];
  /** The program's. */
  state: unknown;
}

/**
 * A handshake that is repeated by the server's own upgrade code. The client has its `101 Switching Protocols` already, so
 * the one that the server writes is discarded. Anything else that the server does first with the connection rejects it.
 * After a rejection in the same turn the connection stays in the old process; after a later one it is closed with 1012,
 * which asks the client to reconnect.
 */
export class Replay {
  static readonly #all = new WeakMap<IncomingMessage, Replay>();
  readonly #handshake: Handshake;
  readonly #version: number;
  readonly #socket: Socket;
  #phase: "open" | "accepted" | HandoverError = "open";
  /** Whether the connection can still be left in the old process. */
  #isEarly = true;
  #timer: NodeJS.Timeout | undefined;

  /** The replay that made a request. */
  static of(request: IncomingMessage): Replay | undefined {
    return Replay.#all.get(request);
  }

  /** @throws {HandoverError} `ERR_REFUSED`, if the server rejects it at once */
  static run(socket: Socket, handshake: Handshake, version: number, server: Server): void {
    if (server.listenerCount("upgrade") === 0) throw rejection("the server has no listener for upgrades");
    const replay = new Replay(socket, handshake, version);
    const request = requestOf(socket, handshake);
    Replay.#all.set(request, replay);
    server.emit("upgrade", request, socket, Buffer.alloc(0));
    replay.#endTurn();
  }

  private constructor(socket: Socket, handshake: Handshake, version: number) {
    this.#socket = socket;
    this.#handshake = handshake;
    this.#version = version;
    overrideMember(socket, "write", (...args: unknown[]) => this.#answer(args));
    overrideMember(socket, "end", (...args: unknown[]) => {
      this.#answer(args);
      return socket;
    });
    overrideMember(socket, "destroy", (error) => {
      this.#reject(rejection("the server destroyed it"));
      return socket.destroy(error);
    });
  }

  /** The state that the program had saved. */
  get state(): unknown {
    return this.#handshake.state;
  }

  /** A WebSocket server accepts it. False if its version is another, or it has chosen something else. */
  accept(version: number, agreement: string[]): boolean {
    if (version !== this.#version) {
      this.#reject(rejection(`its state has version ${this.#version}, the server has version ${version}`));
    } else if (agreement.join("\n") !== this.#handshake.agreement.join("\n")) {
      this.#reject(rejection("the server chose another subprotocol or compression"));
    }
    return this.#phase === "accepted";
  }

  /** A WebSocket server does not take it. */
  refuse(why: string): false {
    this.#reject(rejection(why));
    return false;
  }

  /** The synchronous part of the server's code has run. */
  #endTurn(): void {
    this.#isEarly = false;
    if (this.#phase instanceof HandoverError) throw this.#phase;
    if (this.#phase === "accepted") return;
    const late = rejection(`the server did not answer within ${ANSWER_TIMEOUT} ms`);
    this.#timer = setTimeout(() => this.#reject(late), ANSWER_TIMEOUT).unref();
  }

  /** Discards the bytes that the server writes, and reads its decision in them. */
  #answer(args: unknown[]): boolean {
    discardWrite(args);
    if (this.#phase !== "open") return true;
    const line = String(args[0]).split("\r\n", 1)[0]!;
    if (!line.startsWith("HTTP/1.1 101")) {
      this.#reject(rejection(`the server answered "${line}"`));
      return true;
    }
    this.#phase = "accepted";
    clearTimeout(this.#timer);
    for (const name of ["write", "end", "destroy"] as const) delete (this.#socket as Partial<Socket>)[name];
    return true;
  }

  #reject(reason: HandoverError): void {
    const socket = this.#socket;
    this.#phase = reason;
    clearTimeout(this.#timer);
    delete (socket as Partial<Socket>).destroy;
    if (this.#isEarly) return;
    Socket.prototype.end.call(socket, CLOSE_1012);
    socket.destroySoon();
  }
}

/** ms, for asynchronous authentication. */
const ANSWER_TIMEOUT = 10_000;

function requestOf(
  socket: Socket,
  { method, url, httpVersion, rawHeaders, state }: Handshake,
): IncomingMessage {
  const request = new IncomingMessage(socket);
  const [httpVersionMajor, httpVersionMinor] = httpVersion.split(".").map(Number);
  const handover: Handover = { state };
  setHeaders(request, rawHeaders);
  return Object.assign(request, {
    method,
    url,
    httpVersion,
    httpVersionMajor,
    httpVersionMinor,
    upgrade: true,
    complete: true,
    handover,
  });
}

function rejection(why: string): HandoverError {
  return new HandoverError("ERR_REFUSED", `cannot adopt a WebSocket: ${why}`);
}
