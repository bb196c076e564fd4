import { HandoverError } from "../errors.js";
import { MAX_SIZE, type Message, type MessageType } from "./messages.js";
import { isRecord, SHAPES } from "./shapes.js";

export function encode(message: Message, body?: Uint8Array): Uint8Array {
  const head = Buffer.from(JSON.stringify(message));
  const bytes = body === undefined ? head : Buffer.concat([head, SEPARATOR, body]);
  if (bytes.length > MAX_SIZE) {
    throw new HandoverError(
      "ERR_PROTOCOL",
      `cannot send ${message.type}: ${bytes.length} bytes, at most ${MAX_SIZE}`,
    );
  }
  return bytes;
}

/**
 * Reads one packet but its body. What has an unknown type comes back with its name, for the answer.
 *
 * @throws {HandoverError} `ERR_PROTOCOL` for what no version of this package would send.
 */
export function decode(packet: Uint8Array): Message | { type: "unknown"; name: string } {
  if (packet.length > MAX_SIZE) throw nonsense(`${packet.length} bytes, at most ${MAX_SIZE}`);
  const end = packet.indexOf(0);
  const value = parse(end < 0 ? packet : packet.subarray(0, end));
  if (!isRecord(value) || typeof value["type"] !== "string") throw nonsense("not an object with a type");
  const type = value["type"];
  if (!Object.hasOwn(SHAPES, type)) return { type: "unknown", name: type.slice(0, 64) };
  for (const [field, fits] of Object.entries(SHAPES[type as MessageType])) {
    if (!fits(value[field])) throw nonsense(`a ${type} message without a proper "${field}"`);
  }
  return value as Message;
}

/** A copy of a packet's body; empty where there is none. */
export function bodyOf(packet: Uint8Array): Uint8Array {
  const end = packet.indexOf(0);
  return end < 0 ? new Uint8Array() : packet.slice(end + 1);
}

const SEPARATOR = new Uint8Array(1);

function parse(packet: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(packet));
  } catch (cause) {
    throw nonsense("not JSON in UTF-8", cause);
  }
}

function nonsense(why: string, cause?: unknown): HandoverError {
  return new HandoverError("ERR_PROTOCOL", `cannot understand a message of the other process: ${why}`, {
    cause,
  });
}
