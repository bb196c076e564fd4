import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { isSameFile } from "../platform/path.js";
import { stringsOf } from "../platform/proc.js";
import { VERSION } from "../util/version.js";
import { withoutPreload } from "./preload.js";

/** How this process was started, before the program could change anything. */
export interface LaunchInfo {
  argv: string[];
  env: NodeJS.ProcessEnv;
  /** The physical working directory; undefined if it had been deleted. */
  physicalCwd: string | undefined;
  /** The working directory by the path that was used to enter it, symlinks included. */
  logicalCwd: string;
  /** Why the original command is not known. */
  warning: string | undefined;
}

/** The same of this process. */
export interface OwnLaunch extends LaunchInfo {
  /** One variable of `env`, which is parsed at its first use: a start needs few of its variables. */
  readonly variable: (name: string) => string | undefined;
}

/** The copy of this module in `handover/auto` is loaded first, and reads it for the others. */
const LAUNCH = Symbol.for(`handover.launch:${VERSION}`);

/** Read when this module loads: `process.title = …` overwrites `/proc/self/cmdline`. */
export const launchInfo = ((globalThis as { [LAUNCH]?: OwnLaunch })[LAUNCH] ??= readLaunchInfo());

function readLaunchInfo(): OwnLaunch {
  const block = `\0${readOwn("environ") ?? blockOf(process.env)}`;
  const directory = physicalDirectory();
  let env: NodeJS.ProcessEnv | undefined;
  return {
    ...readWords(),
    get env() {
      return (env ??= withoutPreload(parseEnvironment(stringsOf(block.slice(1)))));
    },
    variable: (name) => variableIn(block, name),
    physicalCwd: directory,
    logicalCwd: logicalDirectory(block, directory),
  };
}

/** As `/proc/self/environ` has it. */
function blockOf(env: NodeJS.ProcessEnv): string {
  return Object.entries(env)
    .map(([name, value]) => `${name}=${value}\0`)
    .join("");
}

/** @param block in which each variable stands between two NULs */
function variableIn(block: string, name: string): string | undefined {
  const start = `\0${name}=`;
  const at = block.indexOf(start);
  return at < 0 ? undefined : block.slice(at + start.length, block.indexOf("\0", at + 1));
}

function readWords(): Pick<LaunchInfo, "argv" | "warning"> {
  const block = readOwn("cmdline");
  const words = block === undefined ? undefined : stringsOf(block);
  const least = 1 + process.execArgv.length + Math.min(process.argv.length - 1, 1);
  if (words !== undefined && words[0] === process.argv0 && words.length >= least) {
    return { argv: words, warning: undefined };
  }
  const why =
    words === undefined
      ? "the command line cannot be read: /proc is not mounted, so "
      : "the command line was overwritten (process.title?) before handover was imported: ";
  const what = "a release behind a switched symlink will not be picked up; ";
  const cure = words === undefined ? "mount /proc" : "import handover first";
  const warning = process.platform === "linux" ? why + what + cure : undefined;
  return { argv: [process.argv0, ...process.execArgv, ...process.argv.slice(1)], warning };
}

/** Undefined where there is no `/proc`. */
function readOwn(file: "cmdline" | "environ"): string | undefined {
  try {
    return readFileSync(`/proc/self/${file}`, "utf8");
  } catch {
    return undefined;
  }
}

function parseEnvironment(lines: readonly string[]): NodeJS.ProcessEnv {
  const pairs = lines.map((line) => {
    const equals = line.indexOf("=", 1);
    return equals < 0 ? undefined : ([line.slice(0, equals), line.slice(equals + 1)] as const);
  });
  return Object.fromEntries(pairs.filter((pair) => pair !== undefined));
}

function physicalDirectory(): string | undefined {
  try {
    return process.cwd();
  } catch {
    return undefined;
  }
}

/**
 * Inside a symlinked directory both `process.cwd()` and `argv[1]` are physical. The shell's `PWD`, or what npm
 * leaves, may know the logical name: believed if it is the same directory, and is called otherwise.
 */
function logicalDirectory(block: string, directory: string | undefined): string {
  const pwd = variableIn(block, "PWD");
  if (directory === undefined) return pwd ?? "/";
  const manifest = variableIn(block, "npm_package_json");
  const candidates = [pwd, manifest && dirname(manifest), variableIn(block, "INIT_CWD")];
  return (
    candidates.find((path) => path?.startsWith("/") && path !== directory && isSameFile(path, ".")) ??
    directory
  );
}
