import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import { Socket, type Server } from "node:net";
import type { CloseStrategy } from "./adapter.js";

interface Streams {
  open: number;
  /** All streams ever. */
  total: number;
  /** Whether the client has been told to open no more streams. */
  isNotified: boolean;
}

/**
 * The HTTP/2 sessions of one server. In a drain the client of one without TLS is told at once to open no more streams, by
 * the shutdown notice of RFC 9113, 6.8; streams on their way are still answered. A GOAWAY that names the last stream
 * follows when the session is quiet: a stream that arrives after it is refused, and many clients do not retry.
 */
export class Http2Sessions implements CloseStrategy {
  readonly #server: Server;
  readonly #sessions = new Map<ServerHttp2Session, Streams>();
  #closing = false;

  constructor(server: Server) {
    this.#server = server;
    server.prependListener("session", this.#onSession);
  }

  dispose(): void {
    this.#server.removeListener("session", this.#onSession);
  }

  /** Sends the notice on each session, once; it cannot be taken back. */
  setClosing(closing: boolean): void {
    this.#closing = closing;
    if (!closing) return;
    for (const [session, streams] of this.#sessions) this.#notify(session, streams);
  }

  idleConnections(): Map<ServerHttp2Session, string> {
    const quiet = [...this.#sessions].filter(
      ([session, { open }]) => this.#closing && open === 0 && !session.closed,
    );
    return new Map(quiet.map(([session, { total }]) => [session, String(total)]));
  }

  /** Sends a GOAWAY that names the last stream. Open streams are still answered, further ones are not. */
  closeIdle(session: ServerHttp2Session): void {
    session.close();
  }

  /** Closes the sessions of clients that open streams in spite of the notice, and those whose streams do not end. */
  closeAll(): void {
    for (const session of this.#sessions.keys()) if (!session.closed) session.close();
  }

  /** The first frame of a session must be its settings: the notice waits until the client has them. */
  #notify(session: ServerHttp2Session, streams: Streams): void {
    if (!this.#closing || streams.isNotified || session.closed || session.destroyed) return;
    if (session.pendingSettingsAck) {
      session.once("localSettings", () => this.#notify(session, streams));
      return;
    }
    streams.isNotified = true;
    writableSocket(session)?.write(Buffer.from(SHUTDOWN_NOTICE));
  }

  readonly #onSession = (session: ServerHttp2Session): void => {
    const streams: Streams = { open: 0, total: 0, isNotified: false };
    this.#sessions.set(session, streams);
    session.once("close", () => this.#sessions.delete(session));
    session.prependListener("stream", (stream: ServerHttp2Stream) => {
      streams.open++;
      streams.total++;
      stream.once("close", () => streams.open--);
    });
    this.#notify(session, streams);
  };
}

/**
 * A GOAWAY without an error that names the highest possible stream. `session.goaway()` cannot be used: after any GOAWAY of
 * its own nghttp2 ignores new streams, and their clients wait. Every write of Node ends with a whole frame, so a frame may
 * follow it.
 */
const SHUTDOWN_NOTICE = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/**
 * The socket below a session, if it can be written to beside nghttp2: libuv queues both writes. A TLS socket ends the
 * process at the second of two writes at a time, and so does one that wraps a stream.
 */
function writableSocket({ socket }: ServerHttp2Session): Socket | undefined {
  if (socket.destroyed || Object.getPrototypeOf(socket) !== Socket.prototype) return undefined;
  // Node hides it behind a proxy that cannot be written to, but whose other methods return the socket itself.
  return socket.off("close", NOTHING);
}

const NOTHING = (): void => {};
