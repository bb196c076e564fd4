import { atCaller } from "../platform/at-caller.js";
import { builtins } from "../platform/builtins.js";
import { HandoverError, reasonOf } from "../errors.js";
import { findLossyValue } from "./json-loss.js";

/** Turns state into bytes and back, both synchronously. Both processes need a codec of the same name. */
export interface Codec {
  readonly name: string;
  /** @throws for data that it cannot encode. This happens in the predecessor, which keeps its state */
  encode(data: unknown): Uint8Array;
  /** @throws for bytes that it cannot decode */
  decode(bytes: Uint8Array): unknown;
}

/**
 * Strict JSON: `encode` throws `ERR_ENCODING`, and names the place, for data that JSON would lose: a Map, a Date, NaN, an
 * instance of a class. `decode` throws `ERR_CODEC`.
 */
export const jsonCodec: Codec = {
  name: "json",
  encode(data) {
    return atCaller(jsonCodec, "encode", () => {
      const loss = findLossyValue(data);
      if (loss !== undefined)
        throw new HandoverError("ERR_ENCODING", `JSON would lose ${loss.what} at ${loss.path}`);
      try {
        return Buffer.from(JSON.stringify(data));
      } catch (cause) {
        throw new HandoverError("ERR_ENCODING", `JSON cannot encode it: ${reasonOf(cause)}`, { cause });
      }
    });
  },
  decode(bytes) {
    return atCaller(jsonCodec, "decode", () => {
      try {
        utf8 ??= new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
        return JSON.parse(utf8.decode(bytes));
      } catch (cause) {
        throw new HandoverError("ERR_CODEC", `it is not JSON: ${reasonOf(cause)}`, { cause });
      }
    });
  },
};

/**
 * Node's structured clone, for Maps, Dates, BigInts and cycles. Only a Node with the same V8 understands its format: in an
 * upgrade to another one the state is refused, and stays with its owner. Throws as {@link jsonCodec}.
 */
export const v8Codec: Codec = {
  get name() {
    const version = process.versions.v8.split(".").slice(0, 2).join(".");
    return `v8-${version}-${builtins.v8.serialize(null)[1]}`;
  },
  encode(data) {
    return atCaller(v8Codec, "encode", () => {
      try {
        return builtins.v8.serialize(data);
      } catch (cause) {
        throw new HandoverError("ERR_ENCODING", `V8 cannot clone it: ${reasonOf(cause)}`, { cause });
      }
    });
  },
  decode(bytes) {
    return atCaller(v8Codec, "decode", () => {
      try {
        return builtins.v8.deserialize(bytes);
      } catch (cause) {
        throw new HandoverError("ERR_CODEC", `V8 cannot read it: ${reasonOf(cause)}`, { cause });
      }
    });
  },
};

/** The codec name of a parcel whose body is the program's own bytes. */
export const BYTES = "bytes";

/** Made at the first use: it loads tables of ICU. */
let utf8: InstanceType<typeof TextDecoder> | undefined;
