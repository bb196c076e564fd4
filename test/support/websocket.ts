import { once } from "node:events";
import { onTestFinished } from "vitest";
import { WebSocket, type ClientOptions } from "ws";
import { Client } from "./client.js";

/** A WebSocket client that remembers what it was sent. */
export class WebSocketClient {
  readonly ws: WebSocket;
  readonly messages: string[] = [];
  /** How it ended, as far as it can tell. */
  readonly closed: Promise<{ code: number; reason: string }>;
  #isClosed = false;

  static async open(
    url: string,
    options: ClientOptions & { protocols?: string[] } = {},
  ): Promise<WebSocketClient> {
    const { protocols = [], ...rest } = options;
    const client = new WebSocketClient(new WebSocket(url, protocols, { perMessageDeflate: false, ...rest }));
    await once(client.ws, "open");
    return client;
  }

  private constructor(ws: WebSocket) {
    this.ws = ws;
    ws.on("message", (data: Buffer) => this.messages.push(data.toString()));
    ws.on("error", () => {});
    this.closed = new Promise((resolve) =>
      ws.once("close", (code, reason) => {
        this.#isClosed = true;
        resolve({ code, reason: reason.toString() });
      }),
    );
    onTestFinished(() => ws.terminate());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Sends, and resolves with the next message. */
  async ask(text: string): Promise<string> {
    this.ws.send(text);
    return this.next();
  }

  /** Takes the oldest message that was not taken yet. */
  async next(): Promise<string> {
    while (this.messages.length === 0) {
      await Promise.race([
        once(this.ws, "message"),
        this.closed.then(({ code }) => Promise.reject(new Error(`closed with ${code}`))),
      ]);
    }
    return this.messages.shift()!;
  }
}

/** A client whose frames are written by hand. */
export async function openRaw(port: number, ...headers: string[]): Promise<Client> {
  const client = await Client.open(port);
  const lines = [
    "GET / HTTP/1.1",
    "Host: a",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ...headers,
  ];
  client.socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  await client.until(/^HTTP\/1.1 101 [^]*?\r\n\r\n/);
  return client;
}

/** A frame of a client's: masked, with a mask of zeros. */
export function frame(text: string, { fin = true, opcode = 1 } = {}): Buffer {
  const payload = Buffer.from(text);
  const length = payload.length < 126 ? [payload.length] : [126, payload.length >> 8, payload.length & 255];
  const head = [(fin ? 0x80 : 0) | opcode, length[0]! | 0x80, ...length.slice(1), 0, 0, 0, 0];
  return Buffer.concat([Buffer.from(head), payload]);
}
