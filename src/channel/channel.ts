import { HandoverError } from "../errors.js";
import { check, createWatcher, native, POLL, type Watcher } from "../platform/native.js";
import { closeAll, duplicateAll } from "../platform/descriptors.js";
import { channelError, hasClosed, isAnnounced, isFailure, isTransient, RETRY_AFTER } from "./failures.js";
import { maxSizeOf } from "./max-size.js";
import type { Message } from "./messages.js";
import { encode } from "./wire-format.js";
import { PacketReader, type Packet } from "./reader.js";

/**
 * The owner of a channel. Each descriptor in `fds` is the listener's to close. An offer has none of its descriptors if not
 * all of them could be received: it can be refused.
 */
interface ChannelListener {
  /** @param sender the PID of the sender, as the kernel vouches for it; 0 where it is unknown */
  message(message: Message, fds: number[], body: Uint8Array, sender: number): void;
  /**
   * A message was lost: the channel carries no more, either way. The process at the other end may live; {@link end} comes
   * when it has closed.
   *
   * @param unsent the messages that were still queued here
   */
  fail?(error: HandoverError, unsent: readonly Message[]): void;
  /** The other end has closed, or broke the protocol (`error`). No message comes after it. */
  end(error: HandoverError | undefined): void;
}

/**
 * One end of the socket pair between two generations. It owns its descriptor. Messages that the socket does not accept at
 * once are queued here, in order. It never keeps the event loop alive.
 */
export class Channel {
  /**
   * A channel that knows the sender of each message, and the descriptor of its other end, which the caller has to close.
   *
   * @throws {HandoverError} `ERR_DESCRIPTOR`
   */
  static pair(): [Channel, number] {
    const [own, other] = check(native().socketpair(), "make", "a pair of sockets");
    native().passCredentials(own);
    return [new Channel(own), other];
  }

  readonly fd: number;
  /** The bytes of the largest message that this end sends. */
  readonly maxSize: number;
  readonly #reader: PacketReader;
  #watcher: Watcher | undefined;
  #listener: ChannelListener | undefined;
  /**
   * Messages that the socket has not accepted yet, with duplicates of the descriptors: their owners may close theirs. What
   * was sent is erased, as it may hold keys.
   */
  readonly #waiting: { message: Message; data: Uint8Array; fds: readonly number[] }[] = [];
  /** Set while sending, or reading, waits after an error that no event of the socket ends. */
  #sendRetry: NodeJS.Timeout | undefined;
  #readRetry: NodeJS.Timeout | undefined;
  #reading = true;
  #failure: HandoverError | undefined;
  #ended = false;
  #closed = false;

  constructor(fd: number) {
    this.fd = fd;
    this.maxSize = maxSizeOf(fd);
    this.#reader = new PacketReader(fd, (unknown) => this.send({ type: "unsupported", unknown }));
  }

  /** Why the channel carries no more messages, although the other end may be open. */
  get failure(): HandoverError | undefined {
    return this.#failure;
  }

  /** Whether the socket has taken every message. */
  get isFlushed(): boolean {
    return this.#waiting.length === 0;
  }

  /** Messages and the end go to `listener` from now on. */
  listen(listener: ChannelListener): void {
    this.#listener = listener;
    this.#reading = this.#failure === undefined;
    this.#watch();
  }

  /**
   * Stops reading, but notices when the other end closes: for a channel that another process now reads through a
   * duplicate. {@link listen} reads again.
   */
  listenForEnd(end: () => void): void {
    this.#listener = { message: () => {}, end };
    this.#reading = false;
    this.#watch();
  }

  /**
   * Sends a message, or queues it. False if it is not sent, as the other end has closed, or the channel has failed. The
   * descriptors stay the caller's.
   *
   * @throws {HandoverError} `ERR_DESCRIPTOR` if it must be queued, and this process has no room for more descriptors;
   *   `ERR_PROTOCOL` if it is larger than {@link maxSize}
   */
  send(message: Message, fds: readonly number[] = [], body?: Uint8Array): boolean {
    if (this.#ended || this.#failure !== undefined) return false;
    const data = encode(message, body, this.maxSize);
    if (this.#waiting.length === 0) {
      const sent = native().send(this.fd, data, fds);
      if (!isTransient(sent)) data.fill(0);
      if (sent >= 0) return true;
      if (!isTransient(sent)) {
        if (!hasClosed(sent)) this.#fail(channelError(sent, "send", message.type));
        return false;
      }
      this.#waitFor(sent);
    }
    this.#waiting.push({ message, data, fds: duplicateAll(fds) });
    this.#watch();
    return true;
  }

  /**
   * Blocks this thread until a message arrives: for the constructor of the successor's Upgrader, which is synchronous.
   *
   * @returns the message, or undefined at the end of the channel
   * @throws {HandoverError} `ERR_UPGRADE_TIMEOUT` at `deadline` (of `performance.now()`), `ERR_CHANNEL`,
   *   `ERR_PROTOCOL`, `ERR_DESCRIPTOR`
   */
  readBlocking(deadline: number): Packet | undefined {
    for (;;) {
      const packet = this.#receiveBlocking();
      if (packet === "end") return undefined;
      if (typeof packet === "object") return packet;
      const left = Math.ceil(deadline - performance.now());
      // The message has arrived already: poll(2) would return at once.
      if (packet === "busy" && left > 0) {
        sleep(Math.min(left, RETRY_AFTER));
        continue;
      }
      const events =
        left <= 0 ? 0 : check(native().poll(this.fd, POLL.readable, left), "wait for", "the predecessor");
      if (events === 0) {
        throw new HandoverError(
          "ERR_UPGRADE_TIMEOUT",
          "cannot read the inheritance: the predecessor sent nothing in time",
        );
      }
    }
  }

  #receiveBlocking(): ReturnType<PacketReader["receive"]> {
    try {
      return this.#reader.receive();
    } catch (error) {
      if (isFailure(error)) this.#fail(error);
      throw error;
    }
  }

  /** Reads the messages that have arrived, without waiting for the event loop. */
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
    const isSending = this.#waiting.length > 0 && this.#sendRetry === undefined;
    this.#watcher.watch(this.#wantedOfReading() | (isSending ? POLL.writable : 0));
  }

  #wantedOfReading(): number {
    if (!this.#reading) return POLL.disconnect;
    return this.#readRetry === undefined ? POLL.readable : 0;
  }

  #onEvents(events: number): void {
    if (events & POLL.writable) this.#flush();
    // One message in a turn: a fast sender would otherwise keep the event loop here.
    if (this.#reading) this.#readOne();
    else if (events & POLL.disconnect) this.#end(undefined);
  }

  /** False if there is nothing to read. */
  #readOne(): boolean {
    if (this.#ended || !this.#reading) return false;
    const packet = this.#receiveOrFail();
    if (packet === undefined) return false;
    if (packet.message.type === "channel-failed") {
      closeAll(packet.fds);
      this.#fail(new HandoverError("ERR_CHANNEL", packet.message.reason));
      return false;
    }
    this.#listener?.message(packet.message, packet.fds, packet.body, packet.sender);
    return true;
  }

  #flush(): void {
    let count = 0;
    for (const { message, data, fds } of this.#waiting) {
      const sent = native().send(this.fd, data, fds);
      if (isTransient(sent)) {
        this.#waitFor(sent);
        break;
      }
      if (sent < 0 && !hasClosed(sent)) {
        this.#waiting.splice(0, count);
        return this.#fail(channelError(sent, "send", message.type));
      }
      // If the other end has closed, the reading side reports it.
      data.fill(0);
      closeAll(fds);
      count++;
    }
    // All at once: to remove thousands one by one takes quadratic time.
    this.#waiting.splice(0, count);
    this.#watch();
  }

  /** A full socket becomes writable again; of memory, or of too many descriptors in flight, there is no such event. */
  #waitFor(result: number): void {
    if (isAnnounced(result)) return;
    this.#sendRetry ??= setTimeout(() => {
      this.#sendRetry = undefined;
      this.#flush();
    }, RETRY_AFTER).unref();
  }

  /** The socket is readable all the time: to watch it would keep the event loop busy. */
  #readLater(): void {
    this.#readRetry ??= setTimeout(() => {
      this.#readRetry = undefined;
      this.#watch();
    }, RETRY_AFTER).unref();
    this.#watch();
  }

  #receiveOrFail(): Packet | undefined {
    try {
      const packet = this.#reader.receive();
      if (typeof packet === "object") return packet;
      if (packet === "busy") this.#readLater();
      if (packet === "end") this.#end(undefined);
    } catch (error) {
      if (isFailure(error)) this.#fail(error);
      else this.#end(error as HandoverError);
    }
    return undefined;
  }

  /**
   * A message is lost, so none may follow it. The other end is told the reason, if that is possible. Its closing is noticed
   * without reading.
   */
  #fail(error: HandoverError): void {
    if (this.#ended || this.#failure !== undefined) return;
    this.#failure = error;
    this.#reading = false;
    const reason = error.message.slice(0, LONGEST_REASON);
    native().send(this.fd, encode({ type: "channel-failed", reason }), []);
    const unsent = this.#waiting.map(({ message }) => message);
    this.#clear();
    // Later: a caller of send() would otherwise be entered again.
    queueMicrotask(() => {
      if (this.#closed) return;
      if (this.#listener !== undefined) this.#watch();
      this.#listener?.fail?.(error, unsent);
    });
  }

  #end(error: HandoverError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stop();
    this.#listener?.end(error);
  }

  #stop(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#clear();
  }

  #clear(): void {
    clearTimeout(this.#sendRetry);
    clearTimeout(this.#readRetry);
    for (const { data, fds } of this.#waiting.splice(0)) {
      data.fill(0);
      closeAll(fds);
    }
  }
}

/** Characters of a reason: it fits in the smallest buffer. */
const LONGEST_REASON = 1_000;

/** Blocks this thread. */
function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
