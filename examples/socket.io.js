// A socket.io server whose clients stay connected over upgrades, with the same id, rooms and data, and no reconnect.
// It uses the public API only, and supports clients with `transports: ["websocket"]`.
import { createServer } from "node:http";
import { Upgrader } from "handover";
import { webSockets } from "handover/ws";
import { Server } from "socket.io";
import { SessionAwareAdapter } from "socket.io-adapter";
import { WebSocket, WebSocketServer } from "ws";

const upg = new Upgrader({ probation: 1_000 });

/** The sockets of socket.io, by their requests. */
const sockets = new WeakMap();
/** What has moved and is not restored yet, by its private id. */
const moved = new Map();

/** The new process opens a session and connects it, as for a fresh client; the client has that behind it. */
class QuietWebSocket extends WebSocket {
  send(data, ...rest) {
    const [, connected] = /^40(\{.*"pid".*)/.exec(data) ?? [];
    if (connected !== undefined) this.pid = JSON.parse(connected).pid;
    if (this.session === undefined) return super.send(data, ...rest);
    if (data.startsWith("0{")) setImmediate(() => this.connect());
    if (connected !== undefined) this.settle();
    rest.at(-1)?.();
  }

  /** In the client's place: on with the session that it had. */
  connect() {
    const { pid } = this.session;
    moved.set(pid, { ...this.session, missedPackets: [] });
    this.emit("message", Buffer.from(`40${JSON.stringify({ pid, offset: "none" })}`), false);
  }

  settle() {
    this.session = undefined;
    this.resume();
    // The client waits for a ping that the old process would have sent.
    this.send("2");
  }
}

class MovingServer extends WebSocketServer {
  constructor(options) {
    super({ ...options, WebSocket: QuietWebSocket });
    webSockets(upg, this, {
      version: 1,
      save: ({ request, pid }) => {
        const { id, rooms, data } = sockets.get(request);
        return { sid: id, pid, rooms: [...rooms], data };
      },
    });
  }

  handleUpgrade(request, socket, head, callback) {
    super.handleUpgrade(request, socket, head, (ws) => {
      Object.assign(ws, { request, session: request.handover?.state });
      if (ws.session !== undefined) ws.pause();
      callback(ws, request);
    });
  }
}

class MovingAdapter extends SessionAwareAdapter {
  async restoreSession(pid, offset) {
    const session = moved.get(pid);
    moved.delete(pid);
    return session ?? super.restoreSession(pid, offset);
  }
}

const server = createServer();
const io = new Server(server, {
  transports: ["websocket"],
  wsEngine: MovingServer,
  adapter: MovingAdapter,
  connectionStateRecovery: {},
});
io.on("connection", (socket) => {
  sockets.set(socket.request, socket);
  socket.data.count ??= 0;
  socket.on("add", (answer) => answer({ generation: upg.generation, count: ++socket.data.count }));
});

const { port } = await upg.listen(server, { port: process.env.PORT ?? 8080 });
await upg.ready();
console.log(`${process.pid} listens on port ${port}`);
await upg.exit;
console.log(`${process.pid} has left`);
process.exit();
