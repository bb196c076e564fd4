import { deserialize, serialize } from "node:v8";
import { HandoverError, reasonOf } from "../errors.js";
import { findLossyValue } from "./json-loss.js";

/** How state becomes bytes, and bytes state, both at once. Both ends must have the same, by its name. */
export interface Codec {
  readonly name: string;
  /** @throws for what it cannot encode: in the old process, which keeps its state */
  encode(data: unknown): Uint8Array;
  decode(bytes: Uint8Array): unknown;
}

/** JSON, and nothing that JSON would lose: it throws, naming the place, on a Map, a Date, NaN, a class instance, … */
export const jsonCodec: Codec = {
  name: "json",
  encode(data) {
    const loss = findLossyValue(data);
    if (loss !== undefined)
      throw new HandoverError("ERR_ENCODING", `JSON would lose ${loss.what} at ${loss.path}`);
    return Buffer.from(JSON.stringify(data));
  },
  decode: (bytes) => JSON.parse(utf8.decode(bytes)),
};

/**
 * Node's structured clone, for a Map, a Date, a BigInt, cycles. Its format belongs to V8, so that it is only understood
 * by a Node with the same V8: an upgrade to another one is refused, and the state stays with its owner.
 */
export const v8Codec: Codec = {
  name: `v8-${process.versions.v8.split(".").slice(0, 2).join(".")}-${serialize(null)[1]}`,
  encode(data) {
    try {
      return serialize(data);
    } catch (cause) {
      throw new HandoverError("ERR_ENCODING", `V8 cannot clone it: ${reasonOf(cause)}`, { cause });
    }
  },
  decode: (bytes) => deserialize(bytes),
};

/** For bytes, which every codec leaves alone. */
export const BYTES = "bytes";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
