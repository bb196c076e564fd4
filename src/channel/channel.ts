import { constants } from "node:os";
import { HandoverError } from "../errors.js";
import { check, createWatcher, native, POLL, type Watcher } from "../platform/native.js";
import { closeAll, duplicateAll } from "../platform/descriptors.js";
import type { Message } from "./messages.js";
import { encode } from "./wire-format.js";
import { PacketReader, type Packet } from "./reader.js";

/**
 * What an owner of a channel hears from it. Each descriptor in `fds` is the listener's to close. An offer comes
 * without any if not all of them could be received: it can be refused.
 */
interface ChannelListener {
  /** @param sender the PID of the sender, as the kernel vouches for it; 0 where it is unknown */
  message(message: Message, fds: number[], body: Uint8Array, sender: number): void;
  /** The other end is gone, or talks nonsense (`error`). Nothing comes after it. */
  end(error: HandoverError | undefined): void;
}

/**
 * One end of the socket pair between two generations. It owns its descriptor. Messages that the socket does
 * not take at once wait here, in order. It never keeps the event loop alive.
 */
export class Channel {
  /** A channel that knows who sends, and the descriptor of its other end, which the caller has to close. */
  static pair(): [Channel, number] {
    const [own, other] = check(native().socketpair(), "make", "a pair of sockets");
    native().passCredentials(own);
    return [new Channel(own), other];
  }

  readonly fd: number;
  readonly #reader: PacketReader;
  #watcher: Watcher | undefined;
  #listener: ChannelListener | undefined;
  /** What the socket did not take yet, with duplicates of the descriptors: their owners may close theirs. */
  readonly #waiting: { data: Uint8Array; fds: readonly number[] }[] = [];
  #retry: NodeJS.Timeout | undefined;
  #reading = true;
  #ended = false;
  #closed = false;

  constructor(fd: number) {
    this.fd = fd;
    this.#reader = new PacketReader(fd, (unknown) => this.send({ type: "unsupported", unknown }));
  }

  /** Messages and the end go to `listener` from now on. */
  listen(listener: ChannelListener): void {
    this.#listener = listener;
    this.#reading = true;
    this.#watch();
  }

  /**
   * Stops reading, but notices when the other end is gone: for a channel that somebody else now reads, through
   * a duplicate. {@link listen} goes back to reading.
   */
  listenForEnd(end: () => void): void {
    this.#listener = { message: () => {}, end };
    this.#reading = false;
    this.#watch();
  }

  /**
   * Sends, or queues. False if the other end is gone. The descriptors stay the caller's.
   *
   * @throws if it must be queued, and this process has no room for more descriptors
   */
  send(message: Message, fds: readonly number[] = [], body?: Uint8Array): boolean {
    if (this.#ended) return false;
    const data = encode(message, body);
    if (this.#waiting.length === 0) {
      const sent = native().send(this.fd, data, fds);
      if (sent >= 0) return true;
      if (!isBusy(sent)) return false;
      this.#waitFor(sent);
    }
    this.#waiting.push({ data, fds: duplicateAll(fds) });
    this.#watch();
    return true;
  }

  /**
   * Blocks this thread until a message is there: for the constructor of the successor, which must be
   * synchronous.
   *
   * @returns the message, or undefined at the end of the channel
   * @throws {HandoverError} `ERR_UPGRADE_TIMEOUT` at `deadline` (of `performance.now()`), `ERR_PROTOCOL`
   */
  readBlocking(deadline: number): Packet | undefined {
    for (;;) {
      const packet = this.#reader.receive();
      if (packet === "end") return undefined;
      if (packet !== "nothing") return packet;
      const left = Math.ceil(deadline - performance.now());
      const events =
        left <= 0 ? 0 : check(native().poll(this.fd, POLL.readable, left), "wait for", "the parent");
      if (events === 0) {
        throw new HandoverError(
          "ERR_UPGRADE_TIMEOUT",
          "cannot read what the parent hands on: nothing came in time",
        );
      }
    }
  }

  /** Reads what is there now, without waiting for the event loop. */
  readNow(): void {
    while (this.#readOne());
  }

  /** Ends the channel for every process that holds either end of it. */
  shutDown(): void {
    if (!this.#closed) native().shutdown(this.fd);
  }

  /** Closes the descriptor. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ended = true;
    this.#stop();
    native().close(this.fd);
  }

  #watch(): void {
    if (this.#ended) return;
    if (this.#watcher === undefined) {
      this.#watcher = createWatcher(this.fd, (events) => this.#onEvents(events));
    }
    const wanted = this.#reading ? POLL.readable : POLL.disconnect;
    this.#watcher.watch(
      wanted | (this.#waiting.length === 0 || this.#retry !== undefined ? 0 : POLL.writable),
    );
  }

  #onEvents(events: number): void {
    if (events & POLL.writable) this.#flush();
    // One in a turn, as the other end may be so fast that there always is one more.
    if (this.#reading) this.#readOne();
    else if (events & POLL.disconnect) this.#end(undefined);
  }

  /** False if there is nothing to read. */
  #readOne(): boolean {
    if (this.#ended || !this.#reading) return false;
    const packet = this.#receiveOrFail();
    if (packet === undefined) return false;
    this.#listener?.message(packet.message, packet.fds, packet.body, packet.sender);
    return true;
  }

  #flush(): void {
    let count = 0;
    for (const { data, fds } of this.#waiting) {
      const sent = native().send(this.fd, data, fds);
      if (isBusy(sent)) {
        this.#waitFor(sent);
        break;
      }
      // If the peer is gone the reading side finds out, and reports it: once.
      closeAll(fds);
      count++;
    }
    // All at once: of thousands, each one would move all the others.
    this.#waiting.splice(0, count);
    this.#watch();
  }

  /** Nothing tells when fewer descriptors are in flight; a full socket tells when it is writable. */
  #waitFor(errno: number): void {
    if (errno !== ETOOMANYREFS) return;
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      this.#flush();
    }, RETRY_AFTER).unref();
  }

  #receiveOrFail(): Packet | undefined {
    try {
      const packet = this.#reader.receive();
      if (packet === "nothing") return undefined;
      if (packet !== "end") return packet;
      this.#end(undefined);
    } catch (error) {
      this.#end(error as HandoverError);
    }
    return undefined;
  }

  #end(error: HandoverError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stop();
    this.#listener?.end(error);
  }

  #stop(): void {
    clearTimeout(this.#retry);
    this.#watcher?.close();
    this.#watcher = undefined;
    for (const { fds } of this.#waiting.splice(0)) closeAll(fds);
  }
}

function isBusy(result: number): boolean {
  return result === -constants.errno.EAGAIN || result === ETOOMANYREFS;
}

/** In ms. */
const RETRY_AFTER = 10;

/** Not among the errors that Node's `os.constants` knows. */
const ETOOMANYREFS = process.platform === "darwin" ? -59 : -109;
