import { constants } from "node:os";
import { HandoverError } from "../errors.js";
import { native, systemError, type Received } from "../platform/native.js";
import { closeAll } from "../platform/descriptors.js";
import { MAX_SIZE, PROTOCOL, type Message } from "./messages.js";
import { channelError, isAnnounced, isTransient } from "./failures.js";
import { bodyOf, decode } from "./wire-format.js";

/** A message with what came along. */
export interface Packet {
  message: Message;
  /** The reader's to close. */
  fds: number[];
  body: Uint8Array;
  /** The PID of the sender, as the kernel vouches for it; 0 where it is unknown. */
  sender: number;
}

/** Reads packets from one end of a channel, whose descriptor is the channel's. */
export class PacketReader {
  readonly #fd: number;
  readonly #onUnknown: (name: string) => void;
  #reset = false;

  /** @param onUnknown called with the type of a message that this version does not know */
  constructor(fd: number, onUnknown: (name: string) => void) {
    this.#fd = fd;
    this.#onUnknown = onUnknown;
  }

  /**
   * The next packet that has arrived; `busy` if it has to be read again later. If the other end closed and left unread data,
   * ECONNRESET comes once, before its last messages. No other error says that it has closed: it may live.
   *
   * @throws {HandoverError} `ERR_CHANNEL`, `ERR_PROTOCOL`, `ERR_DESCRIPTOR`
   */
  receive(): Packet | "nothing" | "busy" | "end" {
    for (;;) {
      const received = native().receive(this.#fd, buffer());
      if (typeof received === "number") {
        if (isAnnounced(received)) return "nothing";
        if (isTransient(received)) return "busy";
        if (received !== -constants.errno.ECONNRESET) throw channelError(received, "receive", "a message");
        if (this.#reset) return "end";
        this.#reset = true;
        continue;
      }
      if (received.size === 0) return "end";
      const packet = this.#unpack(received);
      if (packet !== undefined) return packet;
    }
  }

  /** Undefined for a message of an unknown type, which has been answered. */
  #unpack({ size, fds, truncated, fdsLost, sender }: Received): Packet | undefined {
    try {
      if (truncated) throw new HandoverError("ERR_PROTOCOL", `a message is longer than ${MAX_SIZE} bytes`);
      const packet = buffer().subarray(0, size);
      const message = decode(packet);
      if (message.type !== "unknown") {
        checkProtocol(message);
        const body = bodyOf(packet);
        // The next packet may be short, and an offer may hold keys.
        if (message.type === "offer") packet.fill(0);
        return { message, fds: fdsLost ? withoutLost(message, fds) : fds, body, sender };
      }
      closeAll(fds);
      this.#onUnknown(message.name);
      return undefined;
    } catch (error) {
      closeAll(fds);
      throw error;
    }
  }
}

let shared: Uint8Array | undefined;

/** One buffer serves every channel: a packet is decoded before the next one is read. */
function buffer(): Uint8Array {
  return (shared ??= new Uint8Array(MAX_SIZE));
}

function checkProtocol(message: Message): void {
  if (message.type !== "hello" || message.protocol === PROTOCOL) return;
  throw new HandoverError(
    "ERR_PROTOCOL",
    `the other process (pid ${message.pid}, handover ${message.version}) speaks protocol ${message.protocol}, ` +
      `this one ${PROTOCOL}`,
  );
}

/** An offer can be refused, and stays with its owner. Without an inherited descriptor this process cannot continue. */
function withoutLost(message: Message, fds: readonly number[]): number[] {
  if (message.type !== "offer") throw lost();
  closeAll(fds);
  return [];
}

function lost(): HandoverError {
  return new HandoverError(
    "ERR_DESCRIPTOR",
    "cannot take over every descriptor: this process has no room for more",
    {
      cause: systemError(-constants.errno.EMFILE, "receive", "descriptors"),
    },
  );
}
