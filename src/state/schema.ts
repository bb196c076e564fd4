import { inspect } from "node:util";
import { HandoverError, reasonOf } from "../errors.js";
import { isThenable } from "../util/timeout.js";
import { functionsOf, refuseUnknown, wrongOption } from "../util/validation.js";
import { BYTES, jsonCodec, type Codec } from "./codec.js";
import type { Parcel } from "../exchange/parcel.js";

/** What state of one kind looks like. */
export interface StateSchema<T> {
  /** A whole number; another one than the other process's is refused without {@link migrate}. */
  version: number;
  /** Default strict JSON. Bytes (a `Uint8Array`) travel as they are, whatever the codec. */
  codec?: Codec;
  /** Makes of data of version `from`, older or newer, data of this version, at once. To throw is to refuse it. */
  migrate?(from: number, data: unknown): T;
  /** Whether data that has arrived is sound, at once: `false`, an exception or a promise refuses it. */
  check?(data: T): unknown;
  /** Bytes that it may have when it is encoded. Default 1 GiB. */
  maxSize?: number;
}

/** A shape with its defaults. */
export type ResolvedSchema<T> = Required<Pick<StateSchema<T>, "version" | "codec" | "maxSize">> &
  Pick<StateSchema<T>, "migrate" | "check">;

/** Of a shape that may have `more` members. */
export function resolveSchema<T>(
  where: string,
  shape: StateSchema<T>,
  more: readonly string[] = [],
): ResolvedSchema<T> {
  refuseUnknown(where, shape, [...KNOWN, ...more]);
  const { version, codec = jsonCodec, maxSize = GIB } = shape;
  if (!Number.isSafeInteger(version) || version < 0) throw wrongOption("version", "a whole number", version);
  if (!isCodec(codec)) throw wrongOption("codec", CODEC, codec);
  if (!Number.isSafeInteger(maxSize) || maxSize < 1)
    throw wrongOption("maxSize", "a number of bytes", maxSize);
  return { version, codec, maxSize, ...functionsOf(shape, [], ["migrate", "check"]) };
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readName(what: string, name: unknown): string {
  if (typeof name === "string" && name !== "" && name.length <= LONGEST_NAME && !name.includes("\0"))
    return name;
  const shown = inspect(typeof name === "string" ? name.slice(0, 40) : name);
  throw new HandoverError(
    "ERR_OPTION",
    `${what} must be a text of 1 to ${LONGEST_NAME} characters, not ${shown}`,
  );
}

/**
 * Encodes `data`. `on` is for people: `slot "rooms"`.
 *
 * @throws {HandoverError} `ERR_ENCODING`, `ERR_TOO_LARGE`
 */
export function encode<T>(
  { version, codec, maxSize }: ResolvedSchema<T>,
  data: unknown,
  on: string,
): Pick<Parcel, "version" | "codec" | "body"> {
  const isBytes = data instanceof Uint8Array;
  const body = isBytes ? data : encodeWith(codec, data, on);
  if (body.length <= maxSize) return { version, codec: isBytes ? BYTES : codec.name, body };
  const size = `${body.length} bytes, at most ${maxSize} (maxSize)`;
  throw new HandoverError("ERR_TOO_LARGE", `cannot hand on ${on}: it has ${size}`);
}

/**
 * Decodes what has arrived, migrates and checks it.
 *
 * @throws an error with the code of the refusal: `ERR_CODEC`, `ERR_VERSION`, `ERR_MIGRATE`, `ERR_CHECK`
 */
export function decode<T>(schema: ResolvedSchema<T>, parcel: Parcel): T {
  const { version, migrate, check } = schema;
  if (parcel.version !== version && migrate === undefined) {
    throw refused(
      "ERR_VERSION",
      `it has version ${parcel.version}, here it is ${version}, and there is no migrate`,
    );
  }
  let data = decodeOwn(schema, parcel);
  if (parcel.version !== version) {
    data = attempt("ERR_MIGRATE", () => atOnce("migrate()", migrate!(parcel.version, data)));
  }
  const result = attempt("ERR_CHECK", () => atOnce("check()", check?.(data)));
  if (result === false) throw refused("ERR_CHECK", "check returned false");
  return data;
}

/**
 * Decodes what this process has encoded itself: it is no less sound than it was.
 *
 * @throws an error with the code `ERR_CODEC`
 */
export function decodeOwn<T>({ codec }: ResolvedSchema<T>, parcel: Parcel): T {
  return attempt("ERR_CODEC", () => decodeWith(codec, parcel)) as T;
}

function encodeWith(codec: Codec, data: unknown, on: string): Uint8Array {
  try {
    const bytes: unknown = atOnce(`encode() of the codec ${codec.name}`, codec.encode(data));
    if (bytes instanceof Uint8Array) return bytes;
    throw new TypeError(`the codec ${codec.name} returned ${inspect(bytes, { depth: 0 })}, not a Uint8Array`);
  } catch (cause) {
    throw new HandoverError("ERR_ENCODING", `cannot hand on ${on}: ${reasonOf(cause)}`, { cause });
  }
}

function decodeWith(codec: Codec, { codec: name, body }: Parcel): unknown {
  if (name === BYTES) return body;
  if (name !== codec.name) throw new Error(`it is encoded by ${name}, here it is ${codec.name}`);
  return atOnce(`decode() of the codec ${name}`, codec.decode(body));
}

/**
 * What a function of the program's returned, which nobody waits for.
 *
 * @throws if it is a promise
 */
export function atOnce<R>(what: string, result: R): R {
  if (!isThenable(result)) return result;
  // Nobody hears how it ends.
  result.then(undefined, () => {});
  throw new TypeError(`${what} returned a promise: it must not be asynchronous`);
}

function attempt<R>(code: string, run: () => R): R {
  try {
    return run();
  } catch (error) {
    throw refused(code, reasonOf(error));
  }
}

function refused(code: string, reason: string): Error {
  return Object.assign(new Error(reason), { code });
}

function isCodec(value: unknown): value is Codec {
  const { name, encode: to, decode: from } = (value ?? {}) as Partial<Codec>;
  const isName = typeof name === "string" && name !== "" && name.length <= LONGEST_CODEC;
  return isName && typeof to === "function" && typeof from === "function";
}

const KNOWN = ["version", "codec", "migrate", "check", "maxSize"];

const GIB = 1024 ** 3;

const LONGEST_NAME = 512;
const LONGEST_CODEC = 64;

const CODEC = `an object with encode(), decode() and a name of at most ${LONGEST_CODEC} characters`;
