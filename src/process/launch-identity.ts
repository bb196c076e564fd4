import { realpathSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { findOnPath } from "../platform/path.js";
import type { Command } from "./command.js";
import { ownOptionsOf, wordsOfNodeOptions } from "./node-words.js";

/** The meaning of a command in the file system when a process was started with it. */
export interface LaunchIdentity {
  readonly command: Command;
  /** The file or directory behind each path of the command: where it is, and its last change. */
  readonly files: ReadonlyMap<string, string>;
}

/** Looks up the program, the directory, and the paths in the arguments and in `NODE_OPTIONS`. */
export function identifyLaunch(command: Command): LaunchIdentity {
  const { file, args, cwd, env } = command;
  const program = file.includes("/") ? file : findOnPath(file, env["PATH"] ?? "", cwd)[0];
  const words = wordsOfNodeOptions(env["NODE_OPTIONS"]).map((word) => word.replaceAll(/\\(.)|"/gs, "$1"));
  const values = [...ownOptionsOf(args), ...words].map(valueOf);
  const named = [...values, ...args].filter((one) => one !== undefined && !one.startsWith("-"));
  const paths = [cwd, program, ...named.map((one) => resolve(cwd, one!))];
  const files = new Map<string, string>();
  for (const path of paths) {
    const identity = path === undefined ? undefined : identityOf(path);
    if (identity !== undefined) files.set(path!, identity);
  }
  return { command, files };
}

/**
 * The path that an option of Node names, as `--env-file=.env` or by a URL. Not of the program's own options: one of them may
 * name a file that the program writes, such as a log.
 */
function valueOf(option: string): string | undefined {
  const value = option.startsWith("-") ? option.split("=").slice(1).join("=") : option;
  try {
    return value.startsWith("file:") ? fileURLToPath(value) : value || undefined;
  } catch {
    // A URL of another host.
    return undefined;
  }
}

/** Why a process that was started with `before` is not the one that would be started `now`; undefined if it is. */
export function changeOf(before: LaunchIdentity, now: LaunchIdentity): string | undefined {
  const { env, ...words } = before.command;
  const { env: newEnv, ...newWords } = now.command;
  if (!isDeepStrictEqual(words, newWords)) return "the command of the successor has changed";
  if (!isDeepStrictEqual(env, newEnv)) return "the environment of the successor has changed";
  const paths = new Set([...before.files.keys(), ...now.files.keys()]);
  const changed = [...paths].find((path) => before.files.get(path) !== now.files.get(path));
  return changed === undefined ? undefined : `${changed} has changed`;
}

/** A directory is the same as long as it is at the same place: its last change says nothing about a release. */
function identityOf(path: string): string | undefined {
  try {
    const file = statSync(path);
    const place = `${realpathSync(path)} ${file.dev}:${file.ino}`;
    return file.isDirectory() ? place : `${place} ${file.size} ${file.mtimeMs}`;
  } catch {
    return undefined;
  }
}
