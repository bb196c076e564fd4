import { IncomingMessage, type Server } from "node:http";
import { Socket } from "node:net";
import { HandoverError } from "../errors.js";
import { setHeaders, overrideMember } from "../platform/node-internals.js";

/** What the request of a connection that has moved has as its property `handover`. */
export interface HandedOver {
  /** What `save` returned in the old process. */
  state: unknown;
}

/** What travels with a WebSocket. */
export interface Handshake {
  method: string;
  url: string;
  httpVersion: string;
  rawHeaders: string[];
  /** The headers of the answer that say what was agreed on: the replay must come to the same. */
  agreement: string[];
  /** The program's. */
  state: unknown;
}

/**
 * A handshake that is done again, by the server's own upgrade code. The client has its `101 Switching Protocols`
 * already, so the one that the server writes is kept from it. Anything else that the server does with the connection
 * first is a rejection: one that comes at once leaves the connection where it was; too late for that, the client is
 * told by 1012 to come again.
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

  /** The one that a request belongs to. */
  static of(request: IncomingMessage): Replay | undefined {
    return Replay.#all.get(request);
  }

  /** @throws {HandoverError} `ERR_REFUSED`, if the server rejects it at once */
  static run(socket: Socket, handshake: Handshake, version: number, server: Server): void {
    if (server.listenerCount("upgrade") === 0) throw rejection("the server upgrades nothing");
    const replay = new Replay(socket, handshake, version);
    const request = requestOf(socket, handshake);
    Replay.#all.set(request, replay);
    server.emit("upgrade", request, socket, Buffer.alloc(0));
    replay.#settle();
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
      this.#reject(rejection("the server destroys it"));
      return socket.destroy(error);
    });
  }

  /** What the program had saved. */
  get state(): unknown {
    return this.#handshake.state;
  }

  /** A WebSocket server takes it. False if that is another one than before, or has agreed on something else. */
  accept(version: number, agreement: string[]): boolean {
    if (version !== this.#version) {
      this.#reject(rejection(`it is of version ${this.#version}, not ${version}`));
    } else if (agreement.join("\n") !== this.#handshake.agreement.join("\n")) {
      this.#reject(rejection("the server agrees on another subprotocol or compression"));
    }
    return this.#phase === "accepted";
  }

  /** After the server's code has run; what is left of it is asynchronous. */
  #settle(): void {
    this.#isEarly = false;
    if (this.#phase instanceof HandoverError) throw this.#phase;
    if (this.#phase === "accepted") return;
    const late = rejection("the server does not answer");
    this.#timer = setTimeout(() => this.#reject(late), ANSWER_TIME).unref();
  }

  /** What the server writes reaches nobody. */
  #answer(args: unknown[]): boolean {
    const written = args.findLast((arg) => typeof arg === "function");
    if (written !== undefined) process.nextTick(written);
    if (this.#phase !== "open") return true;
    const line = String(args[0]).split("\r\n", 1)[0]!;
    if (!line.startsWith("HTTP/1.1 101")) {
      this.#reject(rejection(`the server answers "${line}"`));
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

/** A close frame of the server's: no mask, two bytes, 1012. */
const CLOSE_1012 = Buffer.from("880203f4", "hex");

/** ms: for asynchronous authentication. */
const ANSWER_TIME = 10_000;

function requestOf(
  socket: Socket,
  { method, url, httpVersion, rawHeaders, state }: Handshake,
): IncomingMessage {
  const request = new IncomingMessage(socket);
  const [httpVersionMajor, httpVersionMinor] = httpVersion.split(".").map(Number);
  const handover: HandedOver = { state };
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
