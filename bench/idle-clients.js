// Clients of connections.js: raw HTTP/1.1 keep-alive connections with occasional requests.
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Sends one request per ms by a random client that is not waiting for an answer. */
export class Load {
  samples = [];
  #clients;
  #isOver = false;
  #asked = new Set();
  #done;

  /** Starts sending, unless there are no clients. */
  constructor(clients) {
    this.#clients = clients;
    this.#done = this.#run();
  }

  async stop() {
    this.#isOver = true;
    await this.#done;
    await Promise.all(this.#asked);
  }

  async #run() {
    while (!this.#isOver) {
      const client = this.#clients[Math.floor(Math.random() * this.#clients.length)];
      if (client?.isBusy === false) {
        const sent = now();
        const asked = client.ask().then(() => {
          this.samples.push({ sent, ms: now() - sent });
          this.#asked.delete(asked);
        });
        this.#asked.add(asked);
      }
      await sleep(1);
    }
  }
}

export class Client {
  isBusy = false;
  #onBroken;
  #socket;
  #answered;

  /** @param onBroken called with the reason if the connection ends, which is a failure of the benchmark */
  constructor(onBroken) {
    this.#onBroken = onBroken;
  }

  async open(port, localAddress) {
    this.#socket = connect({ port, host: "127.0.0.1", localAddress });
    this.#socket.setNoDelay(true).on("data", () => this.#answered?.());
    await new Promise((resolve) => this.#socket.once("connect", resolve));
    this.#socket.once("close", () => this.#onBroken("a connection was closed"));
    this.#socket.once("error", (error) => this.#onBroken(`a connection failed: ${error.message}`));
  }

  /** The answer is small enough to arrive in one chunk. */
  async ask() {
    this.isBusy = true;
    const answer = new Promise((resolve) => (this.#answered = resolve));
    this.#socket.write("GET / HTTP/1.1\r\nhost: bench\r\n\r\n");
    await answer;
    this.isBusy = false;
  }

  end() {
    this.#socket.removeAllListeners("close").destroy();
  }
}

/** ms of the host's monotonic clock, which is the same in every process. */
export function now() {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Ends the benchmark if this process, or a server of it, may not have that many. */
export function requireDescriptors(needed) {
  const limit = Number(/Max open files\s+(\d+)/.exec(readFileSync("/proc/self/limits", "utf8"))[1]);
  if (limit >= needed) return;
  console.error(`${needed} descriptors are needed and ${limit} allowed: ulimit -n, or fewer --connections`);
  process.exit(1);
}
