// Clients that send one request after another, all the time, and never retry.
import http from "node:http";
import https from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";

/**
 * The number of clients of each kind, and their minimum pause between two requests in ms; the maximum is twice as long.
 * Every client keeps one connection, except those of `fresh`.
 */
export const KINDS = {
  fresh: { clients: 8, pause: 15 },
  get: { clients: 16, pause: 15 },
  post: { clients: 16, pause: 15, body: "an order" },
  slow: { clients: 6, pause: 15, path: "/slow" },
  stream: { clients: 6, pause: 15, path: "/stream", expected: "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n" },
  idle: { clients: 16, pause: 1_500 },
  websocket: { clients: 32, pause: 15 },
};

export class Clients {
  /** For every request or message: when it was sent, the ms it took, and its fault. */
  samples = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, []]));
  /** Connections that were closed although the client wanted to keep them. */
  closed = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, 0]));
  #port;
  #isSecure;
  #isOver = false;
  #clients;

  /** Starts the clients. `isSecure`: of HTTPS. */
  constructor(port, isSecure = false) {
    this.#port = port;
    this.#isSecure = isSecure;
    this.#clients = Object.entries(KINDS).flatMap(([kind, { clients }]) =>
      Array.from({ length: clients }, () => (kind === "websocket" ? this.#talk() : this.#ask(kind))),
    );
  }

  /** Lets every client finish its current request. */
  async finish() {
    this.#isOver = true;
    await Promise.all(this.#clients);
  }

  async #ask(kind) {
    const { pause, path = "/", body, expected = body ?? "ok" } = KINDS[kind];
    const isSecure = this.#isSecure;
    const { Agent } = isSecure ? https : http;
    const agent = kind === "fresh" ? false : new Agent({ keepAlive: true, maxSockets: 1 });
    const onClosed = () => this.#isOver || this.closed[kind]++;
    while (!this.#isOver) {
      const sent = performance.now();
      const fault = await ask({ port: this.#port, isSecure, path, body, agent, onClosed }).then(
        ({ status, text }) => (status === 200 && text === expected ? undefined : `HTTP_${status}`),
        (error) => error.code ?? error.message,
      );
      this.#add(kind, sent, fault);
      await rest(pause);
    }
    if (agent) agent.destroy();
  }

  /** Opens a new connection whenever the last one is closed. */
  async #talk() {
    while (!this.#isOver) {
      const scheme = this.#isSecure ? "wss" : "ws";
      const ws = new WebSocket(`${scheme}://127.0.0.1:${this.#port}`, { rejectUnauthorized: false });
      const closed = new Promise((resolve) => ws.once("close", () => resolve("CLOSED")));
      ws.on("error", () => {});
      const opened = new Promise((resolve) => ws.once("open", () => resolve("OPEN")));
      if ((await Promise.race([closed, opened])) === "OPEN") await this.#converse(ws, closed);
      if (!this.#isOver) await sleep(RECONNECT);
    }
  }

  /** Sends one message after another until the connection is closed. */
  async #converse(ws, closed) {
    for (let n = 0; !this.#isOver && ws.readyState === WebSocket.OPEN; n++) {
      const sent = performance.now();
      const answer = new Promise((resolve) => ws.once("message", (message) => resolve(String(message))));
      ws.send(String(n));
      const received = await Promise.race([answer, closed, sleep(ANSWER_TIMEOUT, "TIMEOUT", { ref: false })]);
      this.#add("websocket", sent, received === String(n) ? undefined : received);
      await rest(KINDS.websocket.pause);
    }
    if (!this.#isOver) this.closed.websocket++;
    ws.terminate();
  }

  #add(kind, sent, fault) {
    this.samples[kind].push({ sent, ms: performance.now() - sent, fault });
  }
}

/** Sends one request, once. `onClosed` is called when a keep-alive connection is closed. */
export function ask({ port, isSecure = false, path, body, agent, onClosed }) {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? "GET" : "POST";
    const where = { host: "127.0.0.1", port, path, rejectUnauthorized: false };
    const options = { ...where, method, agent, timeout: ANSWER_TIMEOUT };
    const sent = (isSecure ? https : http).request(options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
      response.once("error", reject);
      response.once("end", () =>
        resolve({ status: response.statusCode, text, pid: Number(response.headers["x-pid"]) }),
      );
    });
    sent.once("timeout", () => sent.destroy(Object.assign(new Error("no answer"), { code: "TIMEOUT" })));
    sent.once("error", reject);
    if (agent) sent.once("socket", (socket) => watch(socket, onClosed));
    sent.end(body);
  });
}

const watched = new WeakSet();

function watch(socket, onClosed) {
  if (watched.has(socket)) return;
  watched.add(socket);
  // A connection that was never open is a failed request, not a closed connection.
  socket.once(socket.encrypted ? "secureConnect" : "connect", () => socket.once("close", onClosed));
}

function rest(pause) {
  return sleep(pause + Math.random() * pause);
}

/** ms */
const ANSWER_TIMEOUT = 10_000;
const RECONNECT = 20;
