import type { Socket } from "node:net";
import { startReading, stopReading } from "../internals.js";
import { shadow } from "../shadow.js";

/**
 * A connection that neither reads nor writes nor times out, while it is undecided which process has it. What
 * the program writes meanwhile waits: it is sent if the connection stays, and never if it moves, as the next
 * process goes on from the state that was frozen before.
 */
export class StillSocket {
  /** What was read from it and not consumed. */
  readonly unread: Uint8Array | undefined;
  readonly #socket: Socket;
  readonly #timeout: number;
  readonly #calls: (() => void)[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#timeout = socket.timeout ?? 0;
    stopReading(socket);
    socket.setTimeout(0);
    this.unread = socket.readableLength > 0 ? (socket.read() as Uint8Array) : undefined;
    shadow(socket, "write", ((...args: Parameters<Socket["write"]>) => {
      this.#calls.push(() => socket.write(...args));
      return true;
    }) as Socket["write"]);
    shadow(socket, "end", ((...args: Parameters<Socket["end"]>) => {
      this.#calls.push(() => socket.end(...args));
      return socket;
    }) as Socket["end"]);
  }

  /** It stays: all goes on. */
  release(): void {
    const socket = this.#socket;
    if (socket.destroyed) return;
    delete (socket as Partial<Socket>).write;
    delete (socket as Partial<Socket>).end;
    if (this.unread !== undefined) socket.unshift(this.unread);
    socket.setTimeout(this.#timeout);
    startReading(socket);
    for (const call of this.#calls) call();
  }
}
