import { statSync } from "node:fs";
import { inspect } from "node:util";
import { HandoverError } from "../errors.js";
import { path, readSignals, type Settings, type SignalOptions } from "../options.js";
import { usableProcessors } from "../platform/cgroup.js";
import { MAX_FDS } from "../platform/native.js";
import { integer, milliseconds, refuseUnknown, WrongOption, wrongOption } from "../util/validation.js";
import { readHealth, type Health } from "./health-option.js";
import { readMemory } from "./memory-option.js";
import { defaultName, findProgram, requireWords, type WorkerCommand } from "./program.js";
import { withAuto } from "./auto-option.js";
import { unwrapProgram } from "./unwrap-program.js";
import { environmentReader } from "./worker-environment.js";

/** Options of `supervise()`. Times are in milliseconds. */
export interface SupervisorOptions {
  /**
   * The program of the workers: a JavaScript or TypeScript file, which Node runs, or a command, which is looked up on `PATH`.
   * A path is relative to `cwd`.
   */
  program: string;
  /** The arguments of the program. Default: none. */
  args?: readonly string[];
  /** The options of Node for a program that is a file. Default: none. */
  nodeArgs?: readonly string[];
  /** The working directory of the workers. Default: that of this process. */
  cwd?: string;
  /** Variables of the workers beside those of this process; one that is undefined is removed. They win over those of `envFile`. */
  env?: NodeJS.ProcessEnv;
  /** A file with variables of the workers, which is read again at each upgrade. They win over those of this process. */
  envFile?: string;
  /** The name of the service. Default: that of the program's package, or else of its file. */
  name?: string;
  /** The number of workers; "max": one for each processor, fewer under a quota of a container. Default "max", at most 253. */
  workers?: number | "max";
  /** The workers that an upgrade replaces at a time. Default: all, or one at a time where memory is short. */
  rolling?: number;
  /** As the option of `new Upgrader()`: it names this process. */
  pidFile?: string;
  /** As the option of `new Upgrader()`: this process answers there. */
  controlSocket?: string | false;
  /** As the option of `new Upgrader()`: the signals that upgrade the workers, and stop them. */
  signals?: SignalOptions | false;
  /** ms from the start of a worker until it is ready, at an upgrade as well; a later one is killed. Default 60 000. */
  readyTimeout?: number;
  /** As the option of `new Upgrader()`: ms in which a new worker that dies rolls the upgrade back. Default 3 000. */
  probation?: number;
  /** ms of silence after which a serving worker is replaced; 0 switches it off. Default 30 000. */
  hangTimeout?: number;
  /** ms from the stop of the service until its workers are killed. Default: no limit but that of each worker. */
  stopTimeout?: number;
  /**
   * How often a worker that crashes within `restartWindow`, or in a row, is started again; at the next crash it has failed.
   * Default 10.
   */
  restarts?: number;
  /** ms. Default 60 000. */
  restartWindow?: number;
  /**
   * ms before the second restart of a worker that has crashed; the first comes at once. It doubles with each further one, up to
   * 30 s. 0: every restart comes at once. Default 100.
   */
  backoff?: number;
  /** The memory at which a worker is replaced: bytes, or a text such as "512M" or "2G". Default: no limit. */
  maxMemory?: number | string;
  /**
   * What the supervisor asks a worker, before it accepts and while it serves: `"/path"` of its only HTTP server, `"NAME:/path"`
   * of the listener of that name, a list of these, or the words of a command, which succeeds with the code 0. Default: nothing.
   */
  health?: string | readonly string[] | { command: readonly string[] };
  /** "ip": all connections of a client's address go to one worker. Default: each connection goes to any worker. */
  sticky?: "ip";
  /** Whether idle connections move between workers where they are spread unevenly. Default true. */
  rebalance?: boolean;
  /**
   * Whether handover takes over the servers of a program that does not know of it, by `handover/auto`. Then `program` may also be a
   * command of a package, with or without npx. Default false.
   */
  auto?: boolean;
  /** Whether each line that a worker prints begins with its index. Default false: its output is not touched. */
  prefix?: boolean;
}

/** Options with every default filled in and every path made absolute. */
export interface SupervisorSettings {
  readonly name: string;
  /** What `successorCommand` takes, beside the environment. */
  readonly command: WorkerCommand;
  /**
   * The environment of the workers that start now: `envFile` is read again.
   *
   * @throws {HandoverError} `ERR_OPTION`, naming the file
   */
  readonly readEnv: () => NodeJS.ProcessEnv;
  readonly workers: number;
  /** Undefined: all, unless memory is short. */
  readonly rolling: number | undefined;
  readonly pidFile: string | undefined;
  /** A path; `true`: in the user's runtime directory; `false`: none. */
  readonly controlSocket: string | boolean;
  readonly signals: Settings["signals"];
  readonly readyTimeout: number;
  readonly probation: number;
  /** 0: off. */
  readonly hangTimeout: number;
  readonly stopTimeout: number | undefined;
  readonly restarts: number;
  readonly restartWindow: number;
  readonly backoff: number;
  /** in bytes */
  readonly maxMemory: number | undefined;
  readonly health: Health | undefined;
  readonly sticky: "ip" | undefined;
  readonly rebalance: boolean;
  readonly prefix: boolean;
}

/**
 * Checks the options and fills in the defaults. Relative paths are resolved against `directory`.
 *
 * @throws {HandoverError} `ERR_OPTION` for the first wrong option, naming it and the value.
 */
export function readSupervisorOptions(options: SupervisorOptions, directory: string): SupervisorSettings {
  refuseUnknown("supervise()", options, SUPERVISOR_OPTIONS);
  const { settings, faults } = checkSupervisorOptions(options, directory);
  if (settings === undefined) throw faults[0]!;
  return settings;
}

/** The settings, or all that is wrong with the options: a file is mended at once, and not fault by fault. */
export function checkSupervisorOptions(
  options: Readonly<Partial<Record<keyof SupervisorOptions, unknown>>>,
  directory: string,
): { settings: SupervisorSettings; faults: [] } | { settings: undefined; faults: WrongOption[] } {
  const faults: WrongOption[] = [];
  const read = <N extends keyof SupervisorOptions, T>(
    name: N,
    work: (value: unknown, name: N) => T,
  ): T | undefined => {
    try {
      return work(options[name], name);
    } catch (error) {
      if (!(error instanceof HandoverError)) throw error;
      const why = error.message.replace(`the option "${name}" `, "");
      faults.push(error instanceof WrongOption ? error : new WrongOption(name, why));
      return undefined;
    }
  };
  const cwd = read("cwd", (value) => readDirectory(value, directory)) ?? directory;
  const args = read("args", requireWords) ?? [];
  const nodeArgs = read("nodeArgs", requireWords) ?? [];
  const isAuto = read("auto", (value = false, name) => boolean(name, value)) ?? false;
  const command = read("program", (value) => {
    const unwrapped = isAuto && typeof value === "string" ? unwrapProgram([value, ...args], cwd) : undefined;
    if (unwrapped === undefined) return findProgram(value, nodeArgs, args, cwd);
    const [program, ...rest] = unwrapped.words;
    return findProgram(program, nodeArgs, rest, cwd, unwrapped.isScript);
  });
  const pidFile = read("pidFile", (value, name) => path(name, value, directory));
  const env = read("env", readVariables) ?? {};
  const settings = {
    name: read("name", (value) => readName(value) ?? (command && defaultName(command))),
    command,
    readEnv: read("envFile", (value, name) => {
      const readEnv = environmentReader(path(name, value, directory), env);
      return isAuto ? () => withAuto(readEnv()) : readEnv;
    }),
    workers: read("workers", readWorkers),
    rolling: read("rolling", (value, name) => optional(value, () => integer(name, value, 1, MOST_WORKERS))),
    pidFile,
    controlSocket: read("controlSocket", (value, name) =>
      value === false
        ? false
        : (path(name, value, directory) ?? (pidFile === undefined || `${pidFile}.sock`)),
    ),
    signals: read("signals", (value = {}) => readSignals(value as SignalOptions | false)),
    readyTimeout: read("readyTimeout", time(1, 60_000)),
    probation: read("probation", time(0, 3_000)),
    hangTimeout: read("hangTimeout", time(0, 30_000)),
    stopTimeout: read("stopTimeout", (value, name) => optional(value, () => milliseconds(name, value, 1))),
    restarts: read("restarts", (value = 10, name) => integer(name, value, 0, 1_000_000)),
    restartWindow: read("restartWindow", time(1, 60_000)),
    backoff: read("backoff", time(0, 100)),
    maxMemory: read("maxMemory", readMemory),
    health: read("health", readHealth),
    sticky: read("sticky", readSticky),
    rebalance: read("rebalance", (value = true, name) => boolean(name, value)),
    prefix: read("prefix", (value = false, name) => boolean(name, value)),
  };
  if (faults.length > 0) return { settings: undefined, faults };
  return { settings: settings as SupervisorSettings, faults: [] };
}

/** The names of the options. */
export const SUPERVISOR_OPTIONS = Object.keys({
  program: true,
  args: true,
  nodeArgs: true,
  cwd: true,
  env: true,
  envFile: true,
  name: true,
  workers: true,
  rolling: true,
  pidFile: true,
  controlSocket: true,
  signals: true,
  readyTimeout: true,
  probation: true,
  hangTimeout: true,
  stopTimeout: true,
  restarts: true,
  restartWindow: true,
  backoff: true,
  maxMemory: true,
  health: true,
  sticky: true,
  rebalance: true,
  prefix: true,
  auto: true,
} satisfies Record<keyof SupervisorOptions, true>) as (keyof SupervisorOptions)[];

/** Reads a time of at least `least` ms. */
function time(least: number, otherwise: number): (value: unknown, name: string) => number {
  return (value = otherwise, name) => milliseconds(name, value, least);
}

/** The sockets of one listener go in one message. */
export const MOST_WORKERS = MAX_FDS;

function optional<T>(value: unknown, read: () => T): T | undefined {
  return value === undefined ? undefined : read();
}

function readWorkers(value: unknown = "max"): number {
  if (value === "max") return Math.min(usableProcessors(), MOST_WORKERS);
  if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MOST_WORKERS) {
    return value as number;
  }
  throw wrongOption("workers", `a whole number from 1 to ${MOST_WORKERS}, or "max"`, value);
}

function readDirectory(value: unknown, directory: string): string {
  const cwd = path("cwd", value ?? ".", directory)!;
  if (statSync(cwd, { throwIfNoEntry: false })?.isDirectory() === true) return cwd;
  throw new WrongOption("cwd", `must be a directory, and there is none at ${cwd}`);
}

function readName(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && /^[\w][\w.-]{0,99}$/.test(value)) return value;
  throw wrongOption("name", "at most 100 letters, digits, dots, dashes and underscores", value);
}

function readVariables(value: unknown = {}): NodeJS.ProcessEnv {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw wrongOption("env", "an object of strings", value);
  }
  for (const [name, one] of Object.entries(value)) {
    const isUsable = one === undefined || (typeof one === "string" && !one.includes("\0"));
    if (!isUsable) throw wrongOption(`env.${name}`, "a string without a NUL", one);
    if (/^$|[=\0]/.test(name)) throw new WrongOption("env", `cannot have a variable named ${inspect(name)}`);
  }
  return value as NodeJS.ProcessEnv;
}

function readSticky(value: unknown): "ip" | undefined {
  if (value === undefined || value === "ip") return value;
  throw wrongOption("sticky", '"ip"', value);
}

function boolean(name: string, value: unknown): boolean {
  if (typeof value === "boolean") return value;
  throw wrongOption(name, "true or false", value);
}
