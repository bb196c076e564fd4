import { WrongOption, wrongOption } from "../util/validation.js";
import { requireWords } from "./program.js";

/** What a worker is asked. */
export type Health = { readonly paths: readonly HealthPath[] } | { readonly command: readonly string[] };

/** A path of an HTTP server. */
export interface HealthPath {
  /** Of the listener; undefined: the only one of the worker. */
  readonly name: string | undefined;
  readonly path: string;
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readHealth(value: unknown): Health | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string") return { paths: [readPath(value, "health")] };
  if (Array.isArray(value) && value.length > 0) return { paths: readPaths(value) };
  if (typeof value === "object" && value !== null && Object.keys(value).join() === "command") {
    const words = requireWords((value as { command: unknown }).command, "health.command");
    if (words.length > 0) return { command: words };
    throw wrongOption("health.command", "the words of a command", words);
  }
  throw wrongOption("health", `${FORMS}, a list of these, or { command: […] }`, value);
}

const FORMS = '"/path" or "NAME:/path"';

function readPaths(values: readonly unknown[]): HealthPath[] {
  const paths = values.map((one, n) => readPath(one, `health[${n}]`));
  const names = paths.map(({ name }) => name);
  if (paths.length > 1 && names.includes(undefined)) {
    throw new WrongOption("health", 'must name the listener of each path, as in "web:/health"');
  }
  if (new Set(names).size < names.length) throw new WrongOption("health", "has two paths for one listener");
  return paths;
}

/** A name may have colons, as `tcp:127.0.0.1:8080` has. */
function readPath(value: unknown, option: string): HealthPath {
  const [, name, path] = (typeof value === "string" && FORM.exec(value)) || [];
  if (path === undefined) throw wrongOption(option, FORMS, value);
  return { name, path };
}

/** The characters of a path are those that a request line can have. */
const FORM = /^(?:([^/].*):)?(\/[!-~]*)$/;
