import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Server } from "node:net";
import type { CloseStrategy } from "./adapter.js";

/**
 * The HTTP/2 sessions of one server. A session is closed only when it is quiet: after an immediate GOAWAY, requests that
 * are on their way are answered REFUSED_STREAM, and clients do not retry them.
 */
export class Http2Sessions implements CloseStrategy {
  readonly #server: Server;
  /** Open streams, and all streams ever. */
  readonly #sessions = new Map<ServerHttp2Session, { open: number; total: number }>();
  #closing = false;

  constructor(server: Server) {
    this.#server = server;
    server.prependListener("session", this.#onSession);
  }

  dispose(): void {
    this.#server.removeListener("session", this.#onSession);
  }

  /** Sends nothing: a session is closed when it is quiet. */
  setClosing(closing: boolean): void {
    this.#closing = closing;
  }

  idleConnections(): Map<ServerHttp2Session, string> {
    const quiet = [...this.#sessions].filter(
      ([session, { open }]) => this.#closing && open === 0 && !session.closed,
    );
    return new Map(quiet.map(([session, { total }]) => [session, String(total)]));
  }

  /** Sends GOAWAY; streams that arrive before the client has read it are still answered. */
  closeIdle(session: ServerHttp2Session): void {
    session.close();
  }

  readonly #onSession = (session: ServerHttp2Session): void => {
    const streams = { open: 0, total: 0 };
    this.#sessions.set(session, streams);
    session.once("close", () => this.#sessions.delete(session));
    session.prependListener("stream", (stream: ServerHttp2Stream) => {
      streams.open++;
      streams.total++;
      stream.once("close", () => streams.open--);
    });
  };
}
