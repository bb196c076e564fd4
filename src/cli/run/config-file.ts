import { readFileSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { HandoverError, reasonOf } from "../../errors.js";
import { SUPERVISOR_OPTIONS, type SupervisorOptions } from "../../supervisor/settings.js";
import { nearest } from "../../util/nearest.js";

/** Options of a supervisor that are not checked yet. */
export type RawOptions = Partial<Record<keyof SupervisorOptions, unknown>>;

/** A service as a file declares it. */
export interface DeclaredService {
  name: string | undefined;
  options: RawOptions;
  /** Where an option stands in the file: `$.services[1].workers`. */
  pathOf: (option: string) => string;
}

/** A file with the settings of one service or more. */
export interface ConfigFile {
  file: string;
  /** Where its relative paths begin. */
  directory: string;
  services: DeclaredService[];
  /** All that is wrong with it, apart from the values of the options. */
  faults: string[];
  /** All that it asks for and handover does not do. */
  notes: string[];
}

/** The file that `handover run` reads without a program. */
export const DEFAULT_FILE = "handover.config.json";

/**
 * Parses the text of a file of handover: the options of one service, or `{ "services": [ … ] }`.
 *
 * @throws {HandoverError} `ERR_OPTION` if it is not JSON
 */
export function parseConfig(file: string, text: string): ConfigFile {
  const root = parseJson(file, text);
  const config: ConfigFile = { file, directory: dirname(file), services: [], faults: [], notes: [] };
  if (!isObject(root)) {
    config.faults.push(`$ must be an object, not ${kindOf(root)}`);
    return config;
  }
  const { $schema: _, ...rest } = root;
  if (!("services" in rest)) addService(config, "$", rest);
  else addServices(config, rest);
  return config;
}

function addServices(config: ConfigFile, { services, ...others }: Record<string, unknown>): void {
  for (const name of Object.keys(others)) {
    config.faults.push(`$.${name} cannot stand beside $.services: it belongs to one of the services`);
  }
  if (!Array.isArray(services) || services.length === 0) {
    config.faults.push(`$.services must be an array of services, not ${kindOf(services)}`);
    return;
  }
  for (const [n, one] of services.entries()) {
    const path = `$.services[${n}]`;
    if (isObject(one)) addService(config, path, one);
    else config.faults.push(`${path} must be an object, not ${kindOf(one)}`);
  }
  if (services.length > 1) requireNames(config);
}

function addService(config: ConfigFile, path: string, options: Record<string, unknown>): void {
  for (const name of Object.keys(options)) {
    if (KNOWN.includes(name)) continue;
    const meant = nearest(name, KNOWN);
    const hint = meant === undefined ? `; the options are ${KNOWN.join(", ")}` : `; did you mean "${meant}"?`;
    config.faults.push(`${path}.${name} is not an option${hint}`);
  }
  const name = typeof options["name"] === "string" ? options["name"] : undefined;
  const known = Object.fromEntries(Object.entries(options).filter(([one]) => KNOWN.includes(one)));
  config.services.push({ name, options: known, pathOf: (option) => `${path}.${option}` });
}

const KNOWN: readonly string[] = SUPERVISOR_OPTIONS;

/** The services of one file are told apart by their names. */
export function requireNames({ services, faults }: ConfigFile): void {
  const seen = new Set<string>();
  for (const { name, pathOf } of services) {
    if (name === undefined) faults.push(`${pathOf("name")} is missing: the file has several services`);
    else if (seen.has(name)) faults.push(`${pathOf("name")} is the name of two services, ${name}`);
    else seen.add(name);
  }
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readConfigText(file: string): string {
  try {
    const stats = statSync(file);
    if (!stats.isFile()) throw new Error("it is not a file");
    if (stats.size > LONGEST) throw new Error(`it is longer than ${LONGEST} bytes`);
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new HandoverError("ERR_OPTION", `cannot read ${file}: ${reasonOf(cause)}`, { cause });
  }
}

/** Bytes of a file, and of the JSON that a file of PM2 has to say. */
export const LONGEST = 1_024 ** 2;

function parseJson(file: string, text: string): unknown {
  try {
    // Editors of Windows begin a file with this mark.
    return JSON.parse(text.replace(/^\uFEFF/, "")) as unknown;
  } catch (cause) {
    const reason = reasonOf(cause);
    const message = `cannot read ${file}: ${reason}${lineOf(text, reason)}`;
    throw new HandoverError("ERR_OPTION", message, { cause });
  }
}

/** Node 20 says only how many characters are before the fault. */
function lineOf(text: string, reason: string): string {
  const [, position] = /at position (\d+)$/.exec(reason) ?? [];
  if (position === undefined) return "";
  const before = text.slice(0, Number(position)).split("\n");
  return ` (line ${before.length} column ${before.at(-1)!.length + 1})`;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** For an error: what a value is, without its content. */
export function kindOf(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return value.length === 0 ? "an empty array" : "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** Whether a file is one of PM2: all but JSON, and JSON that PM2 reads by its name. */
export function isOfPm2(file: string): boolean {
  return !file.endsWith(".json") || /^(ecosystem|pm2|process(es)?)\b/.test(basename(file));
}
