import { HandoverError } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import { functionsOf, refuseUnknown, requireOwnName, wrongOption } from "../util/validation.js";
import { jsonCodec, type Codec } from "./codec.js";

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
  const shown = builtins.util.inspect(typeof name === "string" ? name.slice(0, 40) : name);
  throw new HandoverError(
    "ERR_OPTION",
    `${what} must be a text of 1 to ${LONGEST_NAME} characters, not ${shown}`,
  );
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
