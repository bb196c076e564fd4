import type { Socket } from "node:dgram";
import { overrideMember } from "../platform/node-internals.js";

/**
 * A datagram socket between the program's `bind()` and that of handover, which takes some turns. What the program sends waits, as
 * in Node, and it can be closed.
 */
export class PendingSocket {
  isClosed = false;
  readonly #socket: Socket;
  readonly #members: Pick<Socket, "send" | "close">;
  readonly #waiting: Parameters<Socket["send"]>[] = [];
  readonly #onListening = (): void => this.end();

  constructor(socket: Socket, callback: (() => void) | undefined) {
    this.#socket = socket;
    this.#members = {
      send: ((...args: Parameters<Socket["send"]>) => void this.#waiting.push(args)) as Socket["send"],
      close: (closed?: () => void) => this.#close(closed),
    };
    for (const name of MEMBERS) overrideMember(socket, name, this.#members[name] as never);
    // Before the program's own listeners, which may send, too.
    socket.prependOnceListener("listening", this.#onListening);
    if (callback !== undefined) callOnce(socket, callback);
  }

  /** Leaves the socket to handover, which may have members of its own there by now. */
  end(): void {
    const socket = this.#socket as Partial<Socket>;
    this.#socket.removeListener("listening", this.#onListening);
    for (const name of MEMBERS) if (socket[name] === this.#members[name]) delete socket[name];
    if (this.isClosed) return;
    for (const args of this.#waiting.splice(0)) {
      try {
        this.#socket.send(...args);
      } catch (error) {
        // It is too late to throw in the program's call.
        process.nextTick(() => this.#socket.emit("error", error as Error));
      }
    }
  }

  /** As Node does, what waits is lost. */
  fail(error: Error): void {
    this.#waiting.length = 0;
    this.end();
    this.#socket.emit("error", error);
  }

  #close(closed: (() => void) | undefined): Socket {
    this.isClosed = true;
    this.end();
    if (closed !== undefined) this.#socket.once("close", closed);
    return this.#socket;
  }
}

const MEMBERS = ["send", "close"] as const;

/** As Node does: an error ends the wait. */
function callOnce(socket: Socket, callback: () => void): void {
  const end = (): void => {
    socket.removeListener("error", end);
    socket.removeListener("listening", onListening);
  };
  const onListening = (): void => {
    end();
    callback.call(socket);
  };
  socket.on("error", end);
  socket.on("listening", onListening);
}
