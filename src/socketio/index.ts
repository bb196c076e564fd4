/**
 * Clients of socket.io stay connected.
 *
 * @module
 */
import { atCaller } from "../platform/at-caller.js";
import type { Upgrader } from "../upgrader.js";
import { moveWebSockets } from "../websocket/moving.js";
import { Clients } from "./clients.js";
import { readServer, type EngineWebSocket } from "./internals.js";
import { Recovery } from "./recovery.js";
import type { SavedClient } from "./saved-client.js";

/** The members of a `Server` of socket.io 4 that say what it is. */
export interface SocketIoServerLike {
  readonly engine: object;
  path(): string;
  of(name: string): object;
}

/**
 * Lets the clients of a server of socket.io that are connected by WebSocket move, with the same ids, rooms and data. In the
 * next process the program's `connection` code runs again, with `socket.recovered`; middlewares do not. In the old process
 * `disconnect` is emitted, with the reason `moved`. A client on polling is told to connect again. What
 * `connectionStateRecovery` keeps in memory moves, too.
 *
 * Call it once for a server, when it is attached to its HTTP server, and before that listens.
 *
 * @throws {HandoverError} `ERR_OPTION`; too late as `addConnections()`
 */
export function socketIo(
  upg: Pick<Upgrader, "addConnections" | "slot" | "on" | "state">,
  server: SocketIoServerLike,
): void {
  atCaller({ socketIo }, "socketIo", () => {
    const io = readServer(server);
    const clients = new Clients(io, new Recovery(upg, io));
    const { serve } = moveWebSockets<EngineWebSocket>(upg, {
      name: "socket.io",
      version: 1,
      move: true,
      isIdle: (ws) => clients.isIdle(ws),
      save: (ws) => clients.save(ws),
      url: withoutSession,
      refuse: (saved) => clients.refuse(saved as SavedClient),
      accepted: (ws, request, saved) => clients.accept(ws, request, saved as SavedClient),
      moved: (ws) => clients.moved(ws),
    });
    const { engine } = io;
    // engine.io makes a new one whenever its HTTP server listens.
    engine.opts.wsEngine = new Proxy(engine.opts.wsEngine, {
      construct: (WebSocketServer, [options]: [object]) => {
        const wss = new WebSocketServer(options);
        serve(wss);
        return wss;
      },
    });
    serve(engine.ws!);
  });
}

/** The next process does not know the session that was begun by polling: it opens one for the WebSocket. */
function withoutSession(url: string): string {
  const [path, query = ""] = url.split("?");
  const parameters = new URLSearchParams(query);
  parameters.delete("sid");
  return `${path}?${parameters.toString()}`;
}
