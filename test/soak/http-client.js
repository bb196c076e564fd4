// A keep-alive connection that asks without end, in random pieces and up to four requests at once, and checks
// that every answer is its own and comes in order.
import { once } from "node:events";
import { connect } from "node:net";
import { setImmediate as turn, setTimeout as pause } from "node:timers/promises";
import { ResponseParser } from "./response-parser.js";

const PIPELINE = 4;

/** ms */
const SILENCE = 20_000;

/** What all clients of a kind have seen. */
export class HttpClients {
  name = "http";
  requests = 0;
  failures = [];
  latencies = [];
  /** Resolves when every client has had its first answers. */
  begun;
  #onFirst;
  #clients;
  #over = false;

  constructor(port, count) {
    let waiting = count;
    this.begun = new Promise((resolve) => {
      this.#onFirst = () => --waiting === 0 && resolve();
    });
    this.#clients = Array.from({ length: count }, (_, n) => this.#run(port, n));
  }

  /** Every client gets the answers it waits for, and leaves. */
  async stop() {
    this.#over = true;
    await Promise.all(this.#clients);
  }

  async #run(port, client) {
    const socket = connect(port, "127.0.0.1").setNoDelay();
    const parser = new ResponseParser();
    socket.setEncoding("latin1").on("data", (text) => parser.push(text));
    const lost = new Promise((_, reject) => {
      socket.once("error", reject).once("close", () => reject(new Error("closed")));
    });
    lost.catch(() => {});
    socket.setTimeout(SILENCE, () => socket.destroy(new Error(`no answer in ${SILENCE} ms`)));
    let count = 0;
    let isFirst = true;
    try {
      await Promise.race([once(socket, "connect"), lost]);
      while (!this.#over) {
        const asked = Array.from({ length: 1 + random(PIPELINE) }, () => makeRequest(client, count++));
        const start = performance.now();
        const writing = writeInPieces(socket, asked.map(({ bytes }) => bytes).join(""));
        for (const { answer } of asked) {
          const got = await Promise.race([parser.next(), lost]);
          if (got !== answer) throw new Error(`got ${got}, not ${answer}`);
          this.requests++;
        }
        this.latencies.push(performance.now() - start);
        await writing;
        if (isFirst) this.#onFirst();
        isFirst = false;
        // Those that are connected would keep a busy server from accepting the others: it accepts one in a turn.
        await this.begun;
        await pause(random(10));
      }
    } catch (error) {
      this.failures.push(`client ${client}, after ${count} requests: ${error.message}`);
      if (isFirst) this.#onFirst();
    } finally {
      socket.destroy();
    }
  }
}

function makeRequest(client, count) {
  const url = `/${client}/${count}?way=${random(4)}`;
  const body = random(2) === 0 ? undefined : `${client}-${count}`.repeat(1 + random(20));
  const head = (method, field) => `${method} ${url} HTTP/1.1\r\nHost: a\r\n${field}\r\n`;
  const answer = `${url} ${body ?? ""}`;
  if (body === undefined) return { bytes: head("GET", ""), answer };
  if (random(2) === 0) return { bytes: head("POST", `Content-Length: ${body.length}\r\n`) + body, answer };
  const at = 1 + random(body.length - 1);
  const chunks = [body.slice(0, at), body.slice(at), ""].map(
    (chunk) => `${chunk.length.toString(16)}\r\n${chunk}${chunk === "" ? "" : "\r\n"}`,
  );
  return { bytes: `${head("POST", "Transfer-Encoding: chunked\r\n")}${chunks.join("")}\r\n`, answer };
}

async function writeInPieces(socket, text) {
  while (text !== "" && !socket.destroyed) {
    const size = random(4) === 0 ? text.length : 1 + random(text.length);
    socket.write(text.slice(0, size), "latin1");
    text = text.slice(size);
    if (random(3) === 0) await pause(random(3));
    else await turn();
  }
}

/** A whole number from 0 up to, and without, `limit`. */
function random(limit) {
  return Math.floor(Math.random() * limit);
}
