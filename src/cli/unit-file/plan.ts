import { existsSync, readFileSync, realpathSync } from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { HandoverError, reasonOf } from "../../errors.js";
import { launchInfo } from "../../process/command.js";
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
  user?: string | undefined;
  /** Addresses on which systemd listens. */
  sockets: string[];
  /** in s */
  watchdog?: number | undefined;
  /** in ms; the options of the program's Upgrader */
  upgradeTimeout: number;
  drainTimeout: number;
}

export const UNIT_TYPES = ["notify", "notify-reload", "simple", "forking"] as const;
type UnitType = (typeof UNIT_TYPES)[number];

/** The options of the command; {@link planUnit} adds the rest. */
export type Request = Partial<Pick<Plan, "name" | "workingDirectory" | "pidFile">> &
  Omit<Plan, "name" | "workingDirectory" | "pidFile" | "command" | "handover"> & { exec?: string };

/**
 * Adds the values that the options leave out: from package.json, and from the places of the programs.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function planUnit({ exec, ...request }: Request): Plan {
  const here = launchInfo.logicalCwd;
  const words = exec === undefined ? undefined : splitWords(exec);
  if (words?.length === 0) throw new HandoverError("ERR_OPTION", "--exec names no program");
  if (words !== undefined && RUNNERS.test(words[0]!)) {
    const message = `cannot run the service with ${words[0]}: systemd would supervise it instead of the program; set --exec to the command that it runs`;
    throw new HandoverError("ERR_OPTION", message);
  }
  const workingDirectory = resolve(here, request.workingDirectory ?? directoryOf(words) ?? ".");
  const [word, ...args] = words ?? startOf(workingDirectory);
  const name = request.name ?? nameOf(workingDirectory);
  return {
    ...request,
    name,
    workingDirectory,
    command: [findProgram(word!, workingDirectory), ...args],
    pidFile: resolve(here, request.pidFile ?? `/run/${name}/${name}.pid`),
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

/** The command of `npm start`, if it runs Node and nothing else; otherwise the package's main module. */
function startOf(directory: string): string[] {
  const { scripts, main } = readPackage(directory) ?? {};
  const start = scripts?.["start"];
  if (start !== undefined && /^node\s[^&|;<>$`*?]+$/.test(start)) return splitWords(start);
  if (main !== undefined) return ["node", main];
  const why = existsSync(join(directory, "package.json"))
    ? `its package.json has no "start" script of the form "node …", and no "main"`
    : "there is no package.json";
  throw new HandoverError("ERR_OPTION", `cannot find out what to start in ${directory}: ${why}; set --exec`);
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
