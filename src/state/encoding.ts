import { inspect } from "node:util";
import { HandoverError, reasonOf, type RefusalCode } from "../errors.js";
import type { Parcel } from "../exchange/parcel.js";
import { isThenable } from "../util/timeout.js";
import { BYTES, type Codec } from "./codec.js";
import type { ResolvedSchema } from "./schema.js";

/**
 * Encodes `data`.
 *
 * @param subject the state, for the error message: `slot "rooms"`
 * @throws {HandoverError} `ERR_ENCODING`, `ERR_TOO_LARGE`
 */
export function encode<T>(
  { version, codec, maxSize }: ResolvedSchema<T>,
  data: unknown,
  subject: string,
): Pick<Parcel, "version" | "codec" | "body"> {
  const isBytes = data instanceof Uint8Array;
  const body = isBytes ? data : encodeWith(codec, data, subject);
  if (body.length <= maxSize) return { version, codec: isBytes ? BYTES : codec.name, body };
  const size = `${body.length} bytes, at most ${maxSize} (maxSize)`;
  throw new HandoverError("ERR_TOO_LARGE", `cannot move ${subject}: it has ${size}`);
}

/**
 * Decodes the data of a parcel that has arrived, migrates it and checks it.
 *
 * @throws {HandoverError} the refusal: `ERR_CODEC`, `ERR_VERSION`, `ERR_MIGRATE`, `ERR_CHECK`
 */
export function decode<T>(schema: ResolvedSchema<T>, parcel: Parcel): T {
  const { version, migrate, check } = schema;
  if (parcel.version !== version && migrate === undefined) {
    throw new HandoverError(
      "ERR_VERSION",
      `it has version ${parcel.version}, here it is ${version}, and there is no migrate`,
    );
  }
  let data = decodeOwn(schema, parcel);
  if (parcel.version !== version) {
    data = attempt("ERR_MIGRATE", () => requireSync("migrate()", migrate!(parcel.version, data)));
  }
  const result = attempt("ERR_CHECK", () => requireSync("check()", check?.(data)));
  if (result === false) throw new HandoverError("ERR_CHECK", "check returned false");
  return data;
}

/**
 * Decodes a parcel that this process has encoded itself: a `check` that refuses state on arrival must not refuse the
 * state of a unit that runs here again.
 *
 * @throws {HandoverError} `ERR_CODEC`
 */
export function decodeOwn<T>({ codec }: ResolvedSchema<T>, parcel: Parcel): T {
  return attempt("ERR_CODEC", () => decodeWith(codec, parcel)) as T;
}

function encodeWith(codec: Codec, data: unknown, subject: string): Uint8Array {
  try {
    const bytes: unknown = requireSync(`encode() of the codec ${codec.name}`, codec.encode(data));
    if (bytes instanceof Uint8Array) return bytes;
    throw new TypeError(`the codec ${codec.name} returned ${inspect(bytes, { depth: 0 })}, not a Uint8Array`);
  } catch (cause) {
    throw new HandoverError("ERR_ENCODING", `cannot move ${subject}: ${reasonOf(cause)}`, { cause });
  }
}

function decodeWith(codec: Codec, { codec: name, body }: Parcel): unknown {
  if (name === BYTES) return body;
  if (name !== codec.name) throw new Error(`it is encoded by ${name}, here it is ${codec.name}`);
  return requireSync(`decode() of the codec ${name}`, codec.decode(body));
}

/**
 * Returns the result of a function of the program that must be synchronous.
 *
 * @throws {TypeError} for a promise; its rejection is handled, as it would end the process
 */
export function requireSync<R>(what: string, result: R): R {
  if (!isThenable(result)) return result;
  result.then(undefined, () => {});
  throw new TypeError(`${what} returned a promise: it must not be asynchronous`);
}

function attempt<R>(code: RefusalCode, run: () => R): R {
  try {
    return run();
  } catch (cause) {
    throw new HandoverError(code, reasonOf(cause), { cause });
  }
}
