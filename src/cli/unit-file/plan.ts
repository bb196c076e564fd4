import { existsSync, readFileSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { HandoverError, reasonOf } from "../../errors.js";
import { launchInfo } from "../../process/launch-info.js";
import { ownPackage } from "../../platform/installation.js";
import { findOnPath } from "../../platform/path.js";
import { splitWords } from "./quote.js";

/** The values of a unit; every path is absolute. */
export interface Plan {
  /** The name of the unit, without `.service`. */
  name: string;
  type: UnitType;
  /** The program and its arguments. */
  command: string[];
  workingDirectory: string;
  pidFile: string;
  /** The command that runs `handover`. */
  handover: string[];
  /** The systemd that runs it: of the machine, or the user's own. */
  manager: "system" | "user";
  user?: string | undefined;
  /** Addresses on which systemd listens. */
  sockets: string[];
  /** Under `handover run`: how many. */
  workers?: number | "max" | undefined;
  /** in s */
  watchdog?: number | undefined;
  /** in ms; the options of the program's Upgrader */
  upgradeTimeout: number;
  drainTimeout: number;
}

/** ms */
export const USUAL_UPGRADE_TIMEOUT = 60_000;

export const UNIT_TYPES = ["notify", "notify-reload", "simple", "forking"] as const;
type UnitType = (typeof UNIT_TYPES)[number];

/** The options of the command; {@link planUnit} adds the rest. */
export type Request = Partial<Pick<Plan, "name" | "workingDirectory" | "pidFile">> &
  Omit<Plan, "name" | "workingDirectory" | "pidFile" | "command" | "handover" | "manager" | "user"> & {
    exec?: string;
    /** `true`: a unit of the user's own systemd */
    user?: string | true;
  };

/**
 * Adds the values that the options leave out: from package.json, and from the places of the programs.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function planUnit({ exec, user, ...request }: Request): Plan {
  const here = launchInfo.logicalCwd;
  const words = exec === undefined ? undefined : splitWords(exec);
  if (words?.length === 0) throw new HandoverError("ERR_OPTION", "--exec names no program");
  if (words !== undefined && RUNNERS.test(words[0]!)) {
    const message = `cannot run the service with ${words[0]}: systemd would supervise it instead of the program; set --exec to the command that it runs`;
    throw new HandoverError("ERR_OPTION", message);
  }
  if (request.workers !== undefined && request.type === "forking")
    throw new HandoverError("ERR_OPTION", "cannot combine --workers with --type forking: use --type notify");
  const workingDirectory = resolve(here, request.workingDirectory ?? directoryOf(words) ?? ".");
  const [word, ...args] = words ?? startOf(workingDirectory);
  const name = request.name ?? nameOf(workingDirectory);
  const manager = user === true ? "user" : "system";
  return {
    ...request,
    name,
    manager,
    user: user === true ? undefined : user,
    workingDirectory,
    command: [findProgram(word!, workingDirectory), ...args],
    pidFile: resolve(here, request.pidFile ?? join(runtimeDirectoryOf(manager), name, `${name}.pid`)),
    handover: [findProgram("node", workingDirectory), findHandover(workingDirectory)],
  };
}

/** Programs that run the service as their child. */
const RUNNERS = /(^|\/)(npm|npx|yarn|pnpm|pm2|nodemon|forever)$/;

/** The package of the program's script; the directory of the script, if the package is not on this machine. */
function directoryOf(words: readonly string[] | undefined): string | undefined {
  const script = words?.slice(1).find((word) => isAbsolute(word));
  if (script === undefined) return undefined;
  return above(dirname(script), "package.json") ?? dirname(script);
}

/** The directory in which systemd makes that of RuntimeDirectory=. */
export function runtimeDirectoryOf(manager: Plan["manager"]): string {
  if (manager === "system") return "/run";
  return process.env["XDG_RUNTIME_DIR"] ?? `/run/user/${process.getuid?.()}`;
}

/**
 * The first of these that exists: the command of `npm start`, if it runs Node and nothing else; the package's main module;
 * and the programs that `npm start` and Node run without any of them.
 */
function startOf(directory: string): string[] {
  const { scripts, main } = readPackage(directory) ?? {};
  const start = scripts?.["start"];
  const commands = [
    ...(start !== undefined && /^node\s[^&|;<>$`*?]+$/.test(start) ? [splitWords(start)] : []),
    ...[main, "server.js", "index.js"].flatMap((one) => (one === undefined ? [] : [["node", one]])),
  ];
  const found = commands.find((words) => missingScript(words, directory) === undefined);
  if (found !== undefined) return found;
  const tried = [...new Set(commands.map((words) => words.join(" ")))].join(", ");
  throw new HandoverError(
    "ERR_OPTION",
    `cannot find a program to start in ${directory}: nothing is there for ${tried}; set --exec`,
  );
}

/**
 * The script of a command of Node that does not exist. Undefined if it exists, or the command has none: which word is the
 * script and which the value of an option of Node is not looked into.
 */
export function missingScript([, ...args]: readonly string[], directory: string): string | undefined {
  const words = args.filter((word) => !word.startsWith("-"));
  return words.some((word) => isModule(resolve(directory, word))) ? undefined : words[0];
}

/** Whether Node finds a script at a path: also without its extension, and in a directory. */
function isModule(path: string): boolean {
  try {
    createRequire(path).resolve(path);
    return true;
  } catch {
    return false;
  }
}

/** The name of the package; without one that of the directory, or of its parent if the directory is a release. */
function nameOf(directory: string): string {
  const logical = /^(current|dist|build|lib|src)$/.test(basename(directory)) ? dirname(directory) : directory;
  const name = readPackage(directory)?.name?.replace(/^@.*\//, "") ?? basename(logical);
  return name.replace(/[^\w.-]+/g, "-").replace(/^[-.]+/, "") || "app";
}

interface Package {
  name?: string;
  main?: string;
  scripts?: Record<string, string>;
}

function readPackage(directory: string): Package | undefined {
  const file = join(directory, "package.json");
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Package;
  } catch (cause) {
    throw new HandoverError("ERR_OPTION", `cannot read ${file}: ${reasonOf(cause)}`, { cause });
  }
}

/** systemd needs an absolute path. A symlink in it is kept, so that an upgrade finds a new Node. */
function findProgram(word: string, directory: string): string {
  if (word.includes("/")) return resolve(directory, word);
  const candidates = findOnPath(word, process.env["PATH"] ?? "");
  // If there are several, the Node that runs this program.
  const own = candidates.find((one) => realpathSync(one) === realpathSync(process.execPath));
  const found = word === "node" ? (own ?? process.execPath) : candidates[0];
  if (found !== undefined) return found;
  throw new HandoverError("ERR_OPTION", `cannot find ${word} on PATH: --exec needs an absolute path`);
}

/** The copy in the program's package, so that both always have the same version; otherwise this copy. */
function findHandover(directory: string): string {
  const inside = join("node_modules", "handover", "bin", "handover.js");
  const root = above(directory, inside);
  if (root !== undefined) return join(root, inside);
  // The unit is for another machine.
  if (!existsSync(directory)) return join(directory, inside);
  const own = join(ownPackage(), "bin", "handover.js");
  if (!own.includes("/_npx/")) return own;
  const message = `cannot find handover in ${join(directory, "node_modules")}, and ${own} is a temporary copy: install handover there`;
  throw new HandoverError("ERR_OPTION", message);
}

/** The nearest directory, from `directory` upwards, that contains `file`. */
function above(directory: string, file: string): string | undefined {
  if (existsSync(join(directory, file))) return directory;
  const parent = dirname(directory);
  return parent === directory ? undefined : above(parent, file);
}
