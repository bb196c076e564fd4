import { inspect } from "node:util";
import { HandoverError, reasonOf, type RefusalCode } from "../errors.js";
import type { Parcel } from "../exchange/parcel.js";
import { isThenable } from "../util/timeout.js";
import { functionsOf, refuseUnknown, requireOwnName, wrongOption } from "../util/validation.js";
import { BYTES, jsonCodec, type Codec } from "./codec.js";

/** The format of one slot, or of the units of one kind. */
export interface StateSchema<T> {
  /** A whole number. State of another version is refused unless there is a {@link migrate}. */
  version: number;
  /** Default {@link jsonCodec}. Bytes (a `Uint8Array`) travel unchanged, whatever the codec is. */
  codec?: Codec;
  /** Returns data of this version, made from data of version `from`, older or newer. Synchronous. To throw refuses it. */
  migrate?(from: number, data: unknown): T;
  /** Whether data that has arrived is valid. Synchronous: `false`, an exception or a promise refuses the data. */
  check?(data: T): unknown;
  /** The largest encoded size, in bytes. Default 1 GiB. */
  maxSize?: number;
}

/** A schema with its defaults. */
export type ResolvedSchema<T> = Required<Pick<StateSchema<T>, "version" | "codec" | "maxSize">> &
  Pick<StateSchema<T>, "migrate" | "check">;

/**
 * Fills in the defaults of a schema.
 *
 * @param more the names of members that `schema` may have besides
 * @throws {HandoverError} `ERR_OPTION`
 */
export function resolveSchema<T>(
  where: string,
  schema: StateSchema<T>,
  more: readonly string[] = [],
): ResolvedSchema<T> {
  refuseUnknown(where, schema, [...KNOWN, ...more]);
  const { version, codec = jsonCodec, maxSize = GIB } = schema;
  if (!Number.isSafeInteger(version) || version < 0) throw wrongOption("version", "a whole number", version);
  if (!isCodec(codec)) throw wrongOption("codec", CODEC, codec);
  if (!Number.isSafeInteger(maxSize) || maxSize < 1)
    throw wrongOption("maxSize", "a number of bytes", maxSize);
  return { version, codec, maxSize, ...functionsOf(schema, [], ["migrate", "check"]) };
}

/**
 * Refuses a label, a kind or the name of a role that the program may not use.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function requireProgramName(what: string, name: unknown): void {
  requireStateName(what, name);
  requireOwnName(what, name);
}

/**
 * Refuses a label, kind, id or role name that is too long for a message, or that contains the separator of topics.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function requireStateName(what: string, name: unknown): asserts name is string {
  if (typeof name === "string" && name !== "" && name.length <= LONGEST_NAME && !name.includes("\0")) return;
  const shown = inspect(typeof name === "string" ? name.slice(0, 40) : name);
  throw new HandoverError(
    "ERR_OPTION",
    `${what} must be a text of 1 to ${LONGEST_NAME} characters, not ${shown}`,
  );
}

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

function isCodec(value: unknown): value is Codec {
  const { name, encode: to, decode: from } = (value ?? {}) as Partial<Codec>;
  const isName = typeof name === "string" && name !== "" && name.length <= LONGEST_CODEC;
  return isName && typeof to === "function" && typeof from === "function";
}

const KNOWN = ["version", "codec", "migrate", "check", "maxSize"];

const GIB = 1024 ** 3;

/** Characters. The head of a parcel, with both names, must fit into one message. */
const LONGEST_NAME = 512;
const LONGEST_CODEC = 64;

const CODEC = `an object with encode(), decode() and a name of at most ${LONGEST_CODEC} characters`;
