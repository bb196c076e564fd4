import { once } from "node:events";
import { io, type Socket } from "socket.io-client";
import { WebSocket } from "ws";
import { word } from "./http-clients.js";
import type { Asker, Askers } from "./load.js";

/** A client of WebSockets that keeps its connection over upgrades. */
export function keptWebSocket(path = "/"): Askers {
  return { "a WebSocket": (port) => new WebSocketClient(`ws://127.0.0.1:${port}${path}`) };
}

/** A client that connects again when it is told to: its connection was closed with 1012. */
export function reconnectingWebSocket(path = "/"): Askers {
  return {
    "a WebSocket that reconnects": (port) => new WebSocketClient(`ws://127.0.0.1:${port}${path}`, true),
  };
}

/** The close code "service restart". */
const RESTARTS = 1012;

class WebSocketClient implements Asker {
  readonly #url: string;
  readonly #reconnects: boolean;
  #socket: WebSocket | undefined;
  #closed: Promise<never> | undefined;

  constructor(url: string, reconnects = false) {
    this.#url = url;
    this.#reconnects = reconnects;
  }

  async ask(): Promise<string> {
    for (;;) {
      const socket = (this.#socket ??= await this.#open());
      try {
        const text = word();
        socket.send(text);
        const [answer] = (await Promise.race([once(socket, "message"), this.#closed!])) as [Buffer];
        if (!answer.toString().startsWith(text)) throw new Error(`was answered ${answer.toString()}`);
        return answer.toString();
      } catch (error) {
        if (!this.#reconnects || (error as Partial<Closed>).closeCode !== RESTARTS) throw error;
        this.#socket = undefined;
      }
    }
  }

  async #open(): Promise<WebSocket> {
    const socket = new WebSocket(this.#url);
    this.#closed = once(socket, "close").then(([closeCode]) => {
      throw Object.assign(new Error(`closed with ${closeCode}`), { closeCode: closeCode as number });
    });
    this.#closed.catch(() => {});
    await once(socket, "open");
    return socket;
  }

  close(): void {
    this.#socket?.terminate();
  }
}

interface Closed {
  closeCode: number;
}

/** A client of socket.io that is not disconnected. */
export function socketIo(): Askers {
  return { "socket.io": (port) => new SocketIoClient(port) };
}

class SocketIoClient implements Asker {
  readonly #socket: Socket;
  readonly #disconnected: Promise<never>;

  constructor(port: number) {
    this.#socket = io(`ws://127.0.0.1:${port}`, { transports: ["websocket"], forceNew: true });
    this.#disconnected = new Promise((_, reject) =>
      this.#socket.once("disconnect", (reason) => reject(new Error(`disconnected: ${reason}`))),
    );
    this.#disconnected.catch(() => {});
  }

  async ask(): Promise<string> {
    const text = word();
    const answer = await Promise.race([
      this.#socket.emitWithAck("say", text) as Promise<string>,
      this.#disconnected,
    ]);
    if (!answer.startsWith(text)) throw new Error(`was answered ${answer}`);
    return answer;
  }

  close(): void {
    this.#socket.disconnect();
  }
}
