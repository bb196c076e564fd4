import { existsSync, readFileSync, realpathSync } from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { HandoverError, reasonOf } from "../../errors.js";
import { launchInfo } from "../../process/command.js";
import { findOnPath } from "../../platform/path.js";
import { splitWords } from "./quote.js";

/** What a unit is made of; every path is absolute. */
export interface Plan {
  /** Of the unit, without `.service`. */
  name: string;
  type: UnitType;
  /** The program and its arguments. */
  command: string[];
  workingDirectory: string;
  pidFile: string;
  /** How the program `handover` is started. */
  handover: string[];
  user?: string | undefined;
  /** What systemd is to listen on. */
  sockets: string[];
  /** s */
  watchdog?: number | undefined;
  /** ms, as the program gives them to its Upgrader. */
  upgradeTimeout: number;
  drainTimeout: number;
}

export const UNIT_TYPES = ["notify", "notify-reload", "simple", "forking"] as const;
type UnitType = (typeof UNIT_TYPES)[number];

/** What was asked for; the rest is found out. */
export type Request = Partial<Pick<Plan, "name" | "workingDirectory" | "pidFile">> &
  Omit<Plan, "name" | "workingDirectory" | "pidFile" | "command" | "handover"> & { exec?: string };

/**
 * Fills in what was not asked for: from package.json, and by looking for the programs.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function planUnit({ exec, ...request }: Request): Plan {
  const here = launchInfo.logicalCwd;
  const words = exec === undefined ? undefined : splitWords(exec);
  if (words?.length === 0) throw new HandoverError("ERR_OPTION", "--exec says no program");
  if (words !== undefined && RUNNERS.test(words[0]!)) {
    const message = `cannot run the service by ${words[0]}: systemd would follow that, and not the program; say by --exec what it runs`;
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

/** Programs that start the service as a child of theirs. */
const RUNNERS = /(^|\/)(npm|npx|yarn|pnpm|pm2|nodemon|forever)$/;

/** The package that the program's script belongs to; its directory, if the package is not on this machine. */
function directoryOf(words: readonly string[] | undefined): string | undefined {
  const script = words?.slice(1).find((word) => isAbsolute(word));
  if (script === undefined) return undefined;
  return above(dirname(script), "package.json") ?? dirname(script);
}

/** What `npm start` runs, as far as that is Node and nothing else; or else the package's main module. */
function startOf(directory: string): string[] {
  const { scripts, main } = readPackage(directory) ?? {};
  const start = scripts?.["start"];
  if (start !== undefined && /^node\s[^&|;<>$`*?]+$/.test(start)) return splitWords(start);
  if (main !== undefined) return ["node", main];
  const why = existsSync(join(directory, "package.json"))
    ? `its package.json has no "start" script of the form "node …", and no "main"`
    : "there is no package.json";
  throw new HandoverError(
    "ERR_OPTION",
    `cannot tell what to start in ${directory}: ${why}; say it by --exec`,
  );
}

/** As the package is called; or the directory, which is often a release's: then the one that it is in. */
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

/** systemd needs an absolute path; one by its own name, as a symlink is what makes a new Node be picked up. */
function findProgram(word: string, directory: string): string {
  if (word.includes("/")) return resolve(directory, word);
  const candidates = findOnPath(word, process.env["PATH"] ?? "");
  // The node that runs this program, where there are several.
  const own = candidates.find((one) => realpathSync(one) === realpathSync(process.execPath));
  const found = word === "node" ? (own ?? process.execPath) : candidates[0];
  if (found !== undefined) return found;
  throw new HandoverError("ERR_OPTION", `cannot find ${word} on PATH: --exec needs an absolute path`);
}

/** The copy that belongs to the program, so that both are always of one version; or else this one. */
function findHandover(directory: string): string {
  const inside = join("node_modules", "handover", "bin", "handover.js");
  const root = above(directory, inside);
  if (root !== undefined) return join(root, inside);
  // The unit is for another machine.
  if (!existsSync(directory)) return join(directory, inside);
  const own = fileURLToPath(new URL("../../../bin/handover.js", import.meta.url));
  if (!own.includes("/_npx/")) return own;
  const message = `cannot find handover in ${join(directory, "node_modules")}, and ${own} will not stay: install it there`;
  throw new HandoverError("ERR_OPTION", message);
}

/** The nearest directory, from `directory` upwards, that has `file` in it. */
function above(directory: string, file: string): string | undefined {
  if (existsSync(join(directory, file))) return directory;
  const parent = dirname(directory);
  return parent === directory ? undefined : above(parent, file);
}
