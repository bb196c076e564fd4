import { HandoverError } from "../errors.js";
import { LONGEST_TIMEOUT } from "./clock.js";

/** Refuses options that are not in `known`, and suggests the likely name. */
export function refuseUnknown(where: string, options: object, known: readonly string[]): void {
  // A promise has no properties of its own, and would pass as an empty object.
  if (
    typeof options !== "object" ||
    options === null ||
    Array.isArray(options) ||
    options instanceof Promise
  ) {
    throw new HandoverError("ERR_OPTION", `${where} takes an object of options, not ${inWords(options)}`);
  }
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const meant = known.find((other) => other.toLowerCase() === name.toLowerCase());
    const hint = meant === undefined ? `; it knows ${known.join(", ")}` : `; did you mean "${meant}"?`;
    throw new HandoverError("ERR_OPTION", `${where} does not know the option "${name}"${hint}`);
  }
}

/**
 * The functions of an options object, bound to it because it may be an instance of a class.
 *
 * @throws {HandoverError} `ERR_OPTION` for a value that is not a function, and for a required function that is missing
 */
export function functionsOf<T extends object, R extends keyof T, O extends keyof T>(
  options: T,
  required: readonly R[],
  optional: readonly O[],
): Pick<T, R | O> {
  const bound: Record<PropertyKey, unknown> = {};
  for (const name of [...required, ...optional]) {
    const value: unknown = options[name];
    if (value === undefined && !(required as readonly unknown[]).includes(name)) continue;
    if (typeof value !== "function") throw wrongOption(String(name), "a function", value);
    bound[name] = value.bind(options);
  }
  return bound as unknown as Pick<T, R | O>;
}

/** Only an error needs it: a start does not load `node:util`. */
function inWords(value: unknown): string {
  return process.getBuiltinModule("node:util").inspect(value);
}

/** The error for an option with a wrong value. */
export function wrongOption(name: string, expected: string, value: unknown): WrongOption {
  return new WrongOption(name, `must be ${expected}, not ${inWords(value)}`);
}

/**
 * An option that cannot be used, and why: a command line calls it by its flag, and a file by its path.
 *
 * @example the option "workers" must be a whole number, not "two"
 */
export class WrongOption extends HandoverError {
  readonly option: string;
  /** What follows the name in a sentence. */
  readonly why: string;

  constructor(option: string, why: string, options?: ErrorOptions) {
    super("ERR_OPTION", `the option "${option}" ${why}`, options);
    this.option = option;
    this.why = why;
  }
}

/** @throws {HandoverError} `ERR_OPTION` */
export function milliseconds(name: string, value: unknown, least: number): number {
  return integer(name, value, least, LONGEST_TIMEOUT, " of milliseconds");
}

/** @throws {HandoverError} `ERR_OPTION` */
export function integer(name: string, value: unknown, least: number, most: number, unit = ""): number {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most)
    return value as number;
  throw wrongOption(name, `a whole number${unit} from ${least} to ${most}`, value);
}

/** @throws {HandoverError} `ERR_OPTION` */
export function flag(name: string, value: unknown): boolean {
  if (typeof value === "boolean") return value;
  throw wrongOption(name, "true or false", value);
}

/** The option `signal`. @throws {HandoverError} `ERR_OPTION` for a value that is neither an `AbortSignal` nor undefined */
export function abortSignal(value: unknown): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw wrongOption("signal", "an AbortSignal", value);
}

/** @throws {HandoverError} `ERR_OPTION` for a value that is neither a string with characters nor undefined */
export function text(name: string, value: unknown): string | undefined {
  if (value === undefined || (typeof value === "string" && value !== "")) return value;
  throw wrongOption(name, "a string that is not empty", value);
}

/**
 * Refuses a name that the library may use itself: a program's listener of the name `handover:control` would take the
 * control socket's descriptor at the next upgrade.
 *
 * @param what names it in the error: `the label of a slot`
 * @throws {HandoverError} `ERR_OPTION`
 */
export function requireOwnName(what: string, name: string): void {
  if (!isReserved(name)) return;
  throw new HandoverError(
    "ERR_OPTION",
    `${what} cannot be "${name}": names that begin with "${RESERVED}" are reserved for handover itself`,
  );
}

/** Whether only the library itself may use a name, as `handover:control`. */
export function isReserved(name: string): boolean {
  return name.startsWith(RESERVED);
}

const RESERVED = "handover:";
