import { dirname } from "node:path";
import { isSameFile } from "../platform/path.js";
import { readBlock } from "../platform/proc.js";
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

/** The copy of this module in `handover/auto` is loaded first, and reads it for the others. */
const LAUNCH = Symbol.for(`handover.launch:${VERSION}`);

/** Read when this module loads: `process.title = …` overwrites `/proc/self/cmdline`. */
export const launchInfo = ((globalThis as { [LAUNCH]?: LaunchInfo })[LAUNCH] ??= readLaunchInfo());

function readLaunchInfo(): LaunchInfo {
  const env = readOwn("environ");
  const directory = physicalDirectory();
  const from = withoutPreload(env === undefined ? { ...process.env } : parseEnvironment(env));
  return { ...readWords(), env: from, physicalCwd: directory, logicalCwd: logicalDirectory(from, directory) };
}

function readWords(): Pick<LaunchInfo, "argv" | "warning"> {
  const words = readOwn("cmdline");
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
function readOwn(file: "cmdline" | "environ"): string[] | undefined {
  try {
    return readBlock("self", file);
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
function logicalDirectory(env: NodeJS.ProcessEnv, directory: string | undefined): string {
  if (directory === undefined) return env["PWD"] ?? "/";
  const candidates = [
    env["PWD"],
    env["npm_package_json"] && dirname(env["npm_package_json"]),
    env["INIT_CWD"],
  ];
  return (
    candidates.find((path) => path?.startsWith("/") && path !== directory && isSameFile(path, ".")) ??
    directory
  );
}
