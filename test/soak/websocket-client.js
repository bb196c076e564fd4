// A WebSocket that sends numbers, is echoed each, and is pushed others: none may be lost, doubled or reordered, in
// either direction, and nobody closes it.
import { setTimeout as pause } from "node:timers/promises";
import { WebSocket } from "ws";

/** What all clients of a kind have seen. */
export class WebSocketClients {
  name = "websocket";
  requests = 0;
  failures = [];
  latencies = [];
  /** Resolves when every client has had its first answer. */
  begun;
  #clients;
  #over = false;

  constructor(port, count) {
    const clients = Array.from({ length: count }, (_, n) => this.#open(port, n));
    this.begun = Promise.all(clients.map(({ begun }) => begun));
    this.#clients = clients.map(({ ended }) => ended);
  }

  /** Every client gets the answers it waits for, and leaves. */
  async stop() {
    this.#over = true;
    await Promise.all(this.#clients);
  }

  #open(port, client) {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false });
    const fail = (why) => this.failures.push(`websocket ${client}: ${why}`);
    const next = { echo: 0, push: 0 };
    let sent = 0;
    let asked;
    const ask = () => {
      asked = performance.now();
      ws.send(String(sent++));
    };
    const begun = new Promise((resolve) => {
      ws.once("message", resolve).once("close", resolve);
    });
    ws.on("open", ask);
    const onMessage = async (text) => {
      const [kind, number] = text.split(" ");
      if (Number(number) !== next[kind]) fail(`${kind} ${number}, not ${next[kind]}`);
      next[kind] = Number(number) + 1;
      this.requests++;
      if (kind !== "echo") return;
      this.latencies.push(performance.now() - asked);
      await pause(Math.random() * 200);
      if (this.#over) ws.close(1000);
      else ask();
    };
    ws.on("message", (data) => void onMessage(Buffer.from(data).toString()));
    ws.on("error", (error) => fail(error.message));
    const ended = new Promise((resolve) => {
      ws.on("close", (code, reason) => {
        if (code !== 1000) fail(`closed with ${code} ${String(reason)}`);
        resolve();
      });
    });
    return { begun, ended };
  }
}
