import { Agent, request, type RequestOptions } from "node:http";
import type { Socket } from "node:net";
import type { Asker, Askers } from "./load.js";

/** A request, and what its answer contains beside the process. */
export interface Exchange extends RequestOptions {
  body?: string;
  contains?: string;
}

/** A word that a server gives back. */
export function word(): string {
  return "abcdefghij".repeat(1 + Math.floor(Math.random() * 500));
}

/** The clients of a server of HTTP: new connections, and keep-alive ones, which have to keep their first socket. */
export function httpClients(
  get: () => Exchange = () => ({ path: "/" }),
  post: () => Exchange = () => postText("/"),
): Askers {
  return {
    "new connection, GET": (port) => new HttpClient(port, get, false),
    "new connection, POST": (port) => new HttpClient(port, post, false),
    "keep-alive, GET": (port) => new HttpClient(port, get),
    "keep-alive, GET, a second one": (port) => new HttpClient(port, get),
    "keep-alive, POST": (port) => new HttpClient(port, post),
    "keep-alive, GET and POST": (port) => {
      let count = 0;
      return new HttpClient(port, () => (count++ % 2 === 0 ? get() : post()));
    },
  };
}

/** A client that reads a stream of events to its end, each time on the same connection. */
export function eventStream(path = "/events"): Askers {
  const get = (): Exchange => ({ path, headers: { accept: "text/event-stream" }, contains: LAST_EVENT });
  return { "stream of events": (port) => new HttpClient(port, get) };
}

/** In the last event of `apps/events.js`. */
const LAST_EVENT = "event 10 ";

export function postText(path: string): Exchange {
  const body = word();
  return { method: "POST", path, headers: { "content-type": "text/plain" }, body, contains: body };
}

export function postJson(path: string, data: unknown, contains: string, headers = {}): Exchange {
  const type = { "content-type": "application/json", accept: "application/json" };
  return { method: "POST", path, headers: { ...type, ...headers }, body: JSON.stringify(data), contains };
}

class HttpClient implements Asker {
  readonly #port: number;
  readonly #next: () => Exchange;
  readonly #agent: Agent | false;
  #socket: Socket | undefined;

  /** @param keeps whether it has one connection, or one for each request */
  constructor(port: number, next: () => Exchange, keeps = true) {
    this.#port = port;
    this.#next = next;
    this.#agent = keeps && new Agent({ keepAlive: true, maxSockets: 1 });
  }

  ask(): Promise<string> {
    const { body, contains = "", ...options } = this.#next();
    return new Promise((resolve, reject) => {
      const asked = request({ ...options, port: this.#port, host: "127.0.0.1", agent: this.#agent });
      asked.once("error", reject).once("socket", (socket) => {
        this.#socket ??= socket;
        if (this.#agent !== false && socket !== this.#socket) reject(new Error("lost its connection"));
      });
      asked.once("response", (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        response.once("error", reject).once("end", () => {
          if (isGood(response.statusCode) && text.includes(contains)) resolve(text);
          else reject(new Error(`was answered ${response.statusCode}: ${text.slice(0, 200)}`));
        });
      });
      asked.end(body);
    });
  }

  close(): void {
    if (this.#agent !== false) this.#agent.destroy();
  }
}

function isGood(status = 0): boolean {
  return status >= 200 && status < 300;
}
