import { statSync } from "node:fs";
import { basename, dirname, extname, resolve } from "node:path";
import type { CommandOverride } from "../options.js";
import { readManifest } from "../platform/installation.js";
import { findOnPath, isExecutable, isSameFile } from "../platform/path.js";
import { launchInfo } from "../process/launch-info.js";
import { scriptOf } from "../process/node-words.js";
import { WrongOption, wrongOption } from "../util/validation.js";

/** `command` is a path, or a name that is looked up on the `PATH` of the environment. */
export type WorkerCommand = Required<Omit<CommandOverride, "env">>;

/**
 * How a program is started: a script by this Node, anything else as a command.
 *
 * @param cwd where the program is looked up
 * @param isForNode whether it is known that Node runs the file
 * @throws {HandoverError} `ERR_OPTION`
 */
export function findProgram(
  value: unknown,
  nodeArgs: readonly string[],
  args: readonly string[],
  cwd: string,
  isForNode = false,
): WorkerCommand {
  if (typeof value !== "string" || value === "" || value.includes("\0")) {
    throw wrongOption("program", "a file or a command", value);
  }
  const file = resolve(cwd, value);
  if (isForNode || isScript(file)) return { command: nodeWord(), args: [...nodeArgs, file, ...args], cwd };
  const why = whyNoCommand(value, file, cwd);
  if (why !== undefined) throw new WrongOption("program", `cannot be run: ${why}`);
  if (nodeArgs.length > 0) {
    const message = `cannot be used: ${value} is a command, and not a file that Node runs; write node ${nodeArgs.join(" ")} …`;
    throw new WrongOption("nodeArgs", message);
  }
  return { command: value.includes("/") ? file : value, args: [...args], cwd };
}

/** Whether Node runs a file: by its ending, or because the system does not. */
function isScript(file: string): boolean {
  if (!isFile(file)) return false;
  return SCRIPT.test(extname(file)) || !isExecutable(file);
}

const SCRIPT = /^\.[cm]?[jt]s$/;

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Whether a word names a file, and not a command on `PATH`. */
export function isPath(word: string): boolean {
  return word.includes("/") || SCRIPT.test(extname(word));
}

/** Why a word is not a command; undefined if it is one. */
function whyNoCommand(word: string, file: string, cwd: string): string | undefined {
  if (isPath(word)) {
    if (isFile(file)) return undefined;
    const other = statSync(file, { throwIfNoEntry: false });
    return other === undefined ? `there is no file ${file}` : `${file} is not a file`;
  }
  if (findOnPath(word, launchInfo.env["PATH"] ?? "", cwd).length > 0) return undefined;
  return `there is no file ${file}, and no command ${word} on PATH`;
}

/**
 * The Node that runs this process, by the word that started it: behind a switched symlink an upgrade finds the new one. Its
 * path, if that word leads to another one by now.
 */
function nodeWord(): string {
  const [word = process.execPath] = launchInfo.argv;
  const path = word.includes("/") ? resolve(launchInfo.logicalCwd, word) : word;
  const [found] = word.includes("/") ? [path] : findOnPath(word, launchInfo.env["PATH"] ?? "");
  return found !== undefined && isSameFile(found, process.execPath) ? path : process.execPath;
}

/** The name of the package in which a program is; without one that of its file. */
export function defaultName({ command, args, cwd }: WorkerCommand): string {
  const isNode = /^node(js)?$/.test(basename(command));
  const script = isNode ? scriptOf(args) : undefined;
  const file = resolve(cwd, script ?? command);
  const name = packageName(script === undefined ? cwd : dirname(file)) ?? basename(file, extname(file));
  return toServiceName(name.replace(/^@.*\//, ""));
}

/** The nearest name that the option `name` takes. */
export function toServiceName(text: string): string {
  const name = text.replaceAll(/[^\w.-]+/g, "-").replace(/^[-.]+/, "");
  return name.slice(0, 100) || "app";
}

/** Of the nearest package, from a directory upwards. */
function packageName(directory: string): string | undefined {
  const manifest = readManifest(directory);
  if (typeof manifest?.name === "string" && manifest.name !== "") return manifest.name;
  const parent = dirname(directory);
  return parent === directory ? undefined : packageName(parent);
}

/** @throws {HandoverError} `ERR_OPTION` for a value that is not a list of words */
export function requireWords(value: unknown = [], name: string): readonly string[] {
  if (!Array.isArray(value)) throw wrongOption(name, "an array of strings", value);
  const wrong = value.findIndex((one) => typeof one !== "string" || one.includes("\0"));
  if (wrong >= 0) throw wrongOption(`${name}[${wrong}]`, "a string without a NUL", value[wrong]);
  return value as string[];
}
