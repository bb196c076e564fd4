import { statSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { HandoverError, reasonOf } from "../errors.js";
import type { CommandOverride } from "../options.js";
import { text, wrongOption } from "../util/validation.js";
import { withoutCompileCache } from "./compile-cache.js";
import { withOtherInspectorPort } from "./inspector.js";
import type { LaunchInfo } from "./launch-info.js";
import { ownOptionsOf, wordsOfNodeOptions } from "./node-words.js";

/** The command that starts a successor. `argv0` is the name by which it sees itself called. */
export interface Command {
  file: string;
  argv0: string;
  args: string[];
  cwd: string;
  env: NodeJS.ProcessEnv;
}

/**
 * The command of the first process, which is looked up again in today's file system: a release, or a `node`, behind a
 * switched symlink is picked up. Its inspector gets another port.
 *
 * @throws {HandoverError} `ERR_OPTION` for a wrong override, `ERR_SPAWN` for a directory that does not exist
 */
export function successorCommand(from: LaunchInfo, override: CommandOverride): Command {
  const [word = process.argv0, ...rest] = from.argv;
  const command = text("spawn.command", override.command) ?? word;
  const args = override.args ?? rest;
  if (!Array.isArray(args) || !args.every((arg) => typeof arg === "string")) {
    throw wrongOption("spawn.args", "an array of strings", args);
  }
  const cwd = text("spawn.cwd", override.cwd) ?? from.logicalCwd;
  // A relative path would mean another directory in every generation.
  if (!isAbsolute(cwd)) throw wrongOption("spawn.cwd", "an absolute path", cwd);
  requireDirectory(cwd);
  const options = ownOptionsOf(args);
  return {
    // With a slash it is a path, relative to the directory; without one it is looked up on PATH.
    file: command.includes("/") ? resolve(cwd, command) : command,
    argv0: command,
    args: [...withOtherInspectorPort(options), ...args.slice(options.length)],
    cwd,
    env: {
      ...withInspectorOptions(withoutInheritance(environment(override.env) ?? from.env)),
      ...systemdVariables(from.env),
      ...logicalPwd(from, override, cwd),
    },
  };
}

/** The command that would start a successor today, or why none can be started; undefined if it is too long to show. */
export function nextCommand(from: LaunchInfo, override: CommandOverride): NextCommand | undefined {
  try {
    const { argv0, args, cwd, env } = successorCommand(from, override);
    const path = env["PATH"];
    const planned = { words: [argv0, ...args], cwd, ...(path === undefined ? {} : { path }) };
    return JSON.stringify(planned).length > MAX_COMMAND_LENGTH ? undefined : planned;
  } catch (error) {
    return { problem: reasonOf(error) };
  }
}

/** Characters. A line of the control socket is longer, but a command may have megabytes. */
const MAX_COMMAND_LENGTH = 16 * 1024;

/** `path` is the `PATH` on which the first word is looked up. */
export type NextCommand = { words: string[]; cwd: string; path?: string } | { problem: string };

/** Passes the logical directory on: `getcwd` in the successor returns only the physical one. */
function logicalPwd(from: LaunchInfo, override: CommandOverride, cwd: string): NodeJS.ProcessEnv {
  return override.cwd !== undefined || cwd !== from.physicalCwd ? { PWD: cwd } : {};
}

/**
 * Removes the variables that are meant for this process alone: systemd's sockets, Node's channels and handover's own.
 * `WATCHDOG_PID` names the first process only, and {@link systemdVariables} adds the watchdog again.
 */
function withoutInheritance(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const own = /^(LISTEN_|WATCHDOG_|NODE_CHANNEL_|NODE_UNIQUE_ID$|HANDOVER_CHANNEL$|HANDOVER_STATE)/;
  return Object.fromEntries(Object.entries(withoutCompileCache(env)).filter(([name]) => !own.test(name)));
}

function withInspectorOptions(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const options = env["NODE_OPTIONS"];
  if (options === undefined) return env;
  const words = wordsOfNodeOptions(options);
  const others = withOtherInspectorPort(words);
  return others.every((word, n) => word === words[n]) ? env : { ...env, NODE_OPTIONS: others.join(" ") };
}

/** The variables by which the service notifies systemd, even if the option `spawn` replaces the environment. */
function systemdVariables(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC } = env;
  const feeds = WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid);
  return {
    ...(NOTIFY_SOCKET === undefined ? {} : { NOTIFY_SOCKET }),
    ...(WATCHDOG_USEC === undefined || !feeds ? {} : { WATCHDOG_USEC }),
  };
}

function environment(value: unknown): NodeJS.ProcessEnv | undefined {
  if (value === undefined) return undefined;
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (isObject && Object.values(value).every((one) => one === undefined || typeof one === "string")) {
    return value as NodeJS.ProcessEnv;
  }
  throw wrongOption("spawn.env", "an object of strings", value);
}

function requireDirectory(cwd: string): void {
  const doing = `cannot start a successor in ${cwd}`;
  try {
    if (statSync(cwd, { throwIfNoEntry: false })?.isDirectory()) return;
  } catch (cause) {
    throw new HandoverError("ERR_SPAWN", `${doing}: ${reasonOf(cause)}`, { cause });
  }
  throw new HandoverError("ERR_SPAWN", `${doing}: there is no such directory`);
}
