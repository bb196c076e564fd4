import type { IncomingMessage } from "node:http";
import { discardWrite } from "../connections/watched-writes.js";
import { overrideMember } from "../platform/node-internals.js";
import {
  PROTOCOL,
  type Client,
  type Connection,
  type EngineWebSocket,
  type Io,
  type IoSocket,
  type Namespace,
  type Transport,
} from "./internals.js";
import type { Recovery } from "./recovery.js";
import { connectPacket, refuseClient, restoreSocket, saveClient, type SavedClient } from "./saved-client.js";

/** What is under way on a connection of engine.io. */
interface Progress {
  /** Known when the client has asked for a namespace. */
  client: Client | undefined;
  /** Namespaces that the client has asked for, and that have not answered. */
  readonly connecting: Set<string>;
  /** Events of the client that a middleware holds, or whose callback the program has not called. */
  unanswered: number;
  /** Of a client that has moved and is not restored yet. */
  restoring: { readonly sockets: Map<string, SavedClient["sockets"][number]>; end(): void } | undefined;
}

/** The clients of a server of socket.io that are connected by WebSocket. */
export class Clients {
  readonly #io: Io;
  readonly #recovery: Recovery;
  readonly #connections = new WeakMap<EngineWebSocket, Connection>();
  readonly #progress = new WeakMap<Connection, Progress>();
  /** Clients that have moved, by the requests that are repeated for them. */
  readonly #arriving = new WeakMap<IncomingMessage, { saved: SavedClient; ws: EngineWebSocket }>();
  /** Of the client whose packet was read last. */
  #reading: Progress | undefined;

  constructor(io: Io, recovery: Recovery) {
    this.#io = io;
    this.#recovery = recovery;
    const { engine } = io;
    const generateId = engine.generateId.bind(engine);
    // The client knows its id.
    overrideMember(
      engine,
      "generateId",
      (request) => this.#arriving.get(request)?.saved.id ?? generateId(request),
    );
    engine.on("connection", (connection) => this.#begin(connection));
    for (const namespace of io._nsps.values()) this.#watch(namespace);
    io.on("new_namespace", (namespace) => this.#watch(namespace));
    const check = io._checkNamespace.bind(io);
    // The program may take its time to decide on a namespace: meanwhile it knows no client of that namespace.
    overrideMember(io, "_checkNamespace", (name, auth, decided) => {
      const progress = this.#reading;
      progress?.connecting.add(name);
      check(name, auth, (namespace) => {
        progress?.connecting.delete(name);
        decided(namespace);
      });
    });
  }

  /** Whether nothing is under way between a client and the program. */
  isIdle(ws: EngineWebSocket): boolean {
    const connection = this.#connections.get(ws);
    if (connection === undefined) return false;
    const { protocol, readyState, transport, writeBuffer } = connection;
    const { client, connecting, unanswered, restoring } = this.#progress.get(connection)!;
    return (
      protocol === PROTOCOL &&
      readyState === "open" &&
      transport.socket === ws &&
      transport.writable &&
      writeBuffer.length === 0 &&
      client !== undefined &&
      client.nsps.size > 0 &&
      connecting.size === 0 &&
      unanswered === 0 &&
      restoring === undefined &&
      !client.decoder.reconstructor &&
      [...client.nsps.values()].every(({ acks }) => acks.size === 0)
    );
  }

  save(ws: EngineWebSocket): SavedClient {
    return saveClient(this.#progress.get(this.#connections.get(ws)!)!.client!);
  }

  refuse(saved: SavedClient): string | undefined {
    const { _nsps: namespaces, parentNsps } = this.#io;
    return refuseClient(saved, (name) => parentNsps.size > 0 || namespaces.has(name));
  }

  /** engine.io opens a session; the client already has one, and must not get the message that opens it. */
  accept(ws: EngineWebSocket, request: IncomingMessage, saved: SavedClient): void {
    this.#arriving.set(request, { saved, ws });
    ws.pause();
    overrideMember(ws, "send", (...args: unknown[]) => void discardWrite(args));
  }

  /** Another reason than of a client that is gone: its session is not kept for its return. */
  moved(ws: EngineWebSocket): void {
    this.#connections.get(ws)?.onClose("moved");
  }

  #begin(connection: Connection): void {
    const progress: Progress = {
      client: undefined,
      connecting: new Set(),
      unanswered: 0,
      restoring: undefined,
    };
    this.#progress.set(connection, progress);
    const note = ({ socket }: Transport): void => {
      if (socket !== undefined) this.#connections.set(socket, connection);
    };
    note(connection.transport);
    connection.on("upgrade", note);
    connection.prependListener("data", () => (this.#reading = progress));
    const arriving = this.#arriving.get(connection.request);
    if (arriving !== undefined) this.#restore(connection, progress, arriving);
  }

  /** Joins the namespaces again, in the client's place. */
  #restore(
    connection: Connection,
    progress: Progress,
    { saved, ws }: { saved: SavedClient; ws: EngineWebSocket },
  ): void {
    delete (ws as Partial<EngineWebSocket>).send;
    const end = (): void => {
      clearTimeout(timer);
      if (progress.restoring === undefined || connection.readyState !== "open") return;
      progress.restoring = undefined;
      ws.resume();
      // The client waits for a ping that the old process would have sent.
      connection.sendPacket("ping");
    };
    // A namespace that the program makes when it is asked for may refuse the client, without a word to handover.
    const timer = setTimeout(end, RESTORE_TIMEOUT).unref();
    connection.once("close", () => clearTimeout(timer));
    const sockets = new Map(saved.sockets.map((socket) => [socket.namespace, socket]));
    progress.restoring = { sockets, end };
    for (const socket of saved.sockets) {
      for (const packet of this.#io.encoder.encode(connectPacket(socket))) connection.emit("data", packet);
    }
  }

  #watch(namespace: Namespace): void {
    const { name } = namespace;
    const add = namespace._add.bind(namespace);
    const run = namespace.run.bind(namespace);
    overrideMember(namespace, "_add", (client, auth, connected) => {
      const progress = this.#progress.get(client.conn)!;
      progress.client = client;
      progress.connecting.add(name);
      const join = (): unknown =>
        add(client, auth, (socket) => {
          progress.connecting.delete(name);
          countEvents(socket, progress);
          connected(socket);
          this.#joined(progress, name);
        });
      return this.#recovery.before(auth, join);
    });
    overrideMember(namespace, "run", (socket, next) => {
      const progress = this.#progress.get(socket.client.conn)!;
      const saved = progress.restoring?.sockets.get(name);
      if (saved === undefined) {
        run(socket, (error) => {
          if (error !== undefined) progress.connecting.delete(name);
          next(error);
        });
      } else {
        // The old process has run them.
        restoreSocket(socket, saved);
        next();
      }
    });
  }

  #joined({ restoring }: Progress, name: string): void {
    if (restoring?.sockets.delete(name) !== true || restoring.sockets.size > 0) return;
    // The program's code for new connections runs after this, in the same turn.
    process.nextTick(() => restoring.end());
  }
}

/** An event that moved with its client would be lost: nothing of it is in the successor. */
function countEvents(socket: IoSocket, progress: Progress): void {
  const ack = socket.ack.bind(socket);
  const run = socket.run.bind(socket);
  const begin = (): (() => void) => {
    let isUnderWay = true;
    progress.unanswered++;
    return () => {
      if (isUnderWay) progress.unanswered--;
      isUnderWay = false;
    };
  };
  overrideMember(socket, "ack", (id) => {
    const answer = ack(id);
    const end = begin();
    return (...args) => {
      end();
      answer(...args);
    };
  });
  overrideMember(socket, "run", (event, done) => {
    const end = begin();
    run(event, (error) => {
      done(error);
      process.nextTick(end);
    });
  });
}

/** ms, for namespaces that the program makes when they are asked for. */
const RESTORE_TIMEOUT = 10_000;
