import { once } from "node:events";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { word } from "./http-clients.js";
import type { Asker } from "./load.js";

/** Sends a line on a new connection each time, and reads the answer up to the end. */
export class LineClient implements Asker {
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  async ask(): Promise<string> {
    const socket = connect(this.#port, "127.0.0.1");
    await once(socket, "connect");
    const line = `*${word()}`;
    socket.write(`${line}\n`);
    const answer = await text(socket);
    if (!answer.startsWith(line)) throw new Error(`was answered ${answer}`);
    return answer;
  }

  close(): void {
    // Each connection has ended.
  }
}
