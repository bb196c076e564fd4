import type { StringDecoder } from "node:string_decoder";
import { builtins } from "../platform/builtins.js";
import { createWatcher, native, POLL, systemError, type Native, type Watcher } from "../platform/native.js";

/** A connection to a control socket. */
export interface ControlConnection {
  /** A few hundred bytes, which a new connection always takes. */
  write(text: string): void;
  /**
   * Waits a moment for the next piece, blocking the thread, and reads it: what the event loop needs first takes longer than the answer of
   * a process that is not busy. Does nothing on a connection that is watched, and on any but the first of this process: a program that
   * asks again and again would never come to its event loop.
   */
  readAtOnce(): void;
  /** Lets the event loop wait for what comes, and read it. Idempotent. */
  watch(): void;
  /** Idempotent. The events end. */
  close(): void;
  /**
   * The user who has bound the socket; undefined if the system does not say.
   *
   * @throws {HandoverError} `ERR_NOT_SUPPORTED` without the addon
   */
  boundBy(): number | undefined;
}

/** What happens on it. The first may come before {@link openConnection} returns. */
export interface ConnectionEvents {
  received(text: string): void;
  failed(error: NodeJS.ErrnoException): void;
  /** The other end has ended it, or it has failed: nothing comes afterwards. */
  ended(): void;
}

/**
 * Connects to a control socket. By the addon: to load `node:net` takes a third of the time in which Node starts, and most programs
 * that ask a control socket do nothing else.
 */
export function openConnection(path: string, events: ConnectionEvents): ControlConnection {
  const addon = addonIfAny();
  return addon === undefined ? connectByNode(path, events) : new AddonConnection(addon, path, events);
}

/** Without the addon, whose absence `doctor` explains, most commands work as well. */
function addonIfAny(): Native | undefined {
  try {
    return native();
  } catch {
    return undefined;
  }
}

class AddonConnection implements ControlConnection {
  readonly #addon: Native;
  readonly #events: ConnectionEvents;
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafe(CHUNK);
  /** A character may come in two pieces. */
  #decoder: StringDecoder | undefined;
  #watcher: Watcher | undefined;
  #isOpen = true;
  readonly #isFirst = isNone;

  constructor(addon: Native, path: string, events: ConnectionEvents) {
    this.#addon = addon;
    isNone = false;
    this.#events = events;
    this.#fd = addon.connectUnix("stream", path);
    if (this.#fd < 0) this.#end(systemError(this.#fd, "connect to", path));
  }

  write(text: string): void {
    // If the other end has gone, that is read soon.
    if (this.#isOpen) this.#addon.send(this.#fd, Buffer.from(text), []);
  }

  readAtOnce(): void {
    if (!this.#isOpen || !this.#isFirst || this.#watcher !== undefined) return;
    if (this.#addon.poll(this.#fd, POLL.readable, MOMENT) > 0) this.#read();
  }

  watch(): void {
    if (!this.#isOpen || this.#watcher !== undefined) return;
    this.#watcher = createWatcher(this.#fd, () => this.#read());
    this.#watcher.ref();
    this.#watcher.watch(POLL.readable);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#watcher?.close();
    if (this.#fd >= 0) this.#addon.close(this.#fd);
  }

  boundBy(): number | undefined {
    const peer = this.#addon.peerCredentials(this.#fd);
    return typeof peer === "number" ? undefined : peer.uid;
  }

  #read(): void {
    const received = this.#addon.receive(this.#fd, this.#buffer);
    if (typeof received === "number") {
      const error = systemError(received, "receive from", "a control socket");
      return error.code === "EAGAIN" ? undefined : this.#end(error);
    }
    const { size, fds } = received;
    // Another program may answer there.
    for (const fd of fds) this.#addon.close(fd);
    if (size === 0) return this.#end();
    this.#events.received(this.#decode(this.#buffer.subarray(0, size)));
    return undefined;
  }

  #decode(bytes: Buffer): string {
    // To load the decoder takes longer than to decode.
    if (this.#decoder === undefined && bytes.at(-1)! < 0x80) return bytes.toString();
    this.#decoder ??= new builtins.stringDecoder.StringDecoder("utf8");
    return this.#decoder.write(bytes);
  }

  #end(error?: NodeJS.ErrnoException): void {
    this.close();
    if (error !== undefined) this.#events.failed(error);
    this.#events.ended();
  }
}

/** Whether this process has not asked yet. */
let isNone = true;

/** Bytes that are received at once. */
const CHUNK = 16_384;

/** ms */
const MOMENT = 20;

function connectByNode(path: string, events: ConnectionEvents): ControlConnection {
  const socket = builtins.net.connect({ path });
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => events.received(text));
  socket.once("error", (error) => events.failed(error));
  socket.once("close", () => events.ended());
  return {
    write: (text) => void socket.write(text),
    readAtOnce: () => {},
    watch: () => {},
    close: () => void socket.destroy(),
    boundBy: () => {
      // Throws: only the addon can ask the system.
      native();
      return undefined;
    },
  };
}
