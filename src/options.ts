import { isAbsolute, join, resolve } from "node:path";
import { HandoverError, reasonOf } from "./errors.js";
import type { HostExchange } from "./exchange/hosts.js";
import { builtins } from "./platform/builtins.js";
import { MAX_FDS } from "./platform/native.js";
import {
  flag,
  integer,
  milliseconds,
  refuseUnknown,
  text,
  WrongOption,
  wrongOption,
} from "./util/validation.js";

/** Options of `new Upgrader()`. Times are in milliseconds. */
export interface UpgraderOptions {
  /** ms from the start of a successor until it is ready; a later one is killed. Default 60 000. */
  upgradeTimeout?: number;
  /** ms in which the connections of a replaced or stopped process have to move or end. Default 30 000. */
  drainTimeout?: number;
  /** ms that a process may live after `exit` has resolved; then it exits with code 1. 0: no limit. Default 10 000. */
  exitTimeout?: number;
  /** ms after the commit in which a successor that dies is rolled back; 0 switches it off. Default 3 000. */
  probation?: number;
  /** Older generations that may drain at the same time. Default 4, at most 253. */
  maxDraining?: number;
  /** The file that names the process that accepts. Default: no PID file. */
  pidFile?: string;
  /**
   * The socket on which the command `handover` reaches this process. Default: `<pidFile>.sock`, or without a PID file one in
   * the user's runtime directory, if there is such a directory. `false`: none.
   */
  controlSocket?: string | false;
  /** The signals that upgrade and stop; `false`: none. Default: SIGHUP upgrades, SIGTERM and SIGINT stop. */
  signals?: SignalOptions | false;
  /**
   * "refuse": `upgrade()` rejects with `ERR_UNMANAGED_LISTENER` if this process listens on a fixed address without handover,
   * which the upgrade would lose. "allow": it does not ask. Default "refuse".
   */
  unmanaged?: "refuse" | "allow";
  /**
   * `false`: connections over TLS do not move, and their keys stay in this process. Also an option of `listen()`, for one
   * server. Default `true`.
   */
  tls?: boolean;
  /**
   * Keeps the compiled code of the program's modules in a directory, from which successors start faster: Node 22.1 and later.
   * `true`: `$XDG_CACHE_HOME/handover`, or else `~/.cache/handover`. Default `false`.
   */
  compileCache?: boolean | string;
  /**
   * The service's other hosts: `postgres()` of `handover/postgres`, or `kubernetesLease()` of `handover/kubernetes`. Units, slots and roles with the scope `"global"` need it.
   * Default: none.
   */
  exchange?: HostExchange;
  /** Where clients reach this process, for the other hosts: an address, a URL. Default: none. */
  address?: string;
  /**
   * The release of the program. In a rolling deploy units go to processes of the newest one. Default: the environment variable
   * `HANDOVER_RELEASE`, if it is set.
   */
  release?: string;
  /**
   * ms for which this process still accepts when it is asked to stop, while the other hosts and a load balancer learn of it.
   * Default 0.
   */
  stopDelay?: number;
  /** The parts of the successor's command that differ from the command of the first process. */
  spawn?: CommandOverride | (() => CommandOverride);
}

export interface SignalOptions {
  /** Default "SIGHUP"; `false`: none. */
  upgrade?: NodeJS.Signals | false;
  /** Default ["SIGTERM", "SIGINT"]. */
  stop?: readonly NodeJS.Signals[];
}

/** The option `spawn`. A part that is left out is the same as in the command that started this process. */
export interface CommandOverride {
  /** A path, relative to `cwd`, or a name that is looked up on `PATH`. */
  command?: string;
  args?: readonly string[];
  /** An absolute path. */
  cwd?: string;
  /** The whole environment, not an addition. */
  env?: NodeJS.ProcessEnv;
}

/** Options with every default filled in and every path made absolute. */
export interface Settings {
  readonly upgradeTimeout: number;
  readonly drainTimeout: number;
  readonly exitTimeout: number;
  readonly probation: number;
  readonly maxDraining: number;
  readonly pidFile: string | undefined;
  /** A path; `true`: in the user's runtime directory; `false`: none. */
  readonly controlSocket: string | boolean;
  readonly signals: {
    readonly upgrade: NodeJS.Signals | undefined;
    readonly stop: readonly NodeJS.Signals[];
  };
  readonly unmanaged: "refuse" | "allow";
  /** Whether connections over TLS may move. */
  readonly tls: boolean;
  /** A directory. */
  readonly compileCache: string | undefined;
  readonly exchange: HostExchange | undefined;
  readonly address: string | undefined;
  readonly release: string | undefined;
  readonly stopDelay: number;
  readonly spawn: () => CommandOverride;
  /** Whether `spawn` runs the program's own code. */
  readonly computesSpawn: boolean;
}

/** Defaults of options that are the whole service's under a supervisor. */
export const DEFAULTS = { upgradeTimeout: 60_000, probation: 3_000, maxDraining: 4 } as const;

/**
 * Checks the options and fills in the defaults. Relative paths are resolved against `directory`.
 *
 * @throws {HandoverError} `ERR_OPTION`, naming the option and the value.
 */
export function readOptions(options: UpgraderOptions, directory: string): Settings {
  refuseUnknown("new Upgrader()", options, KNOWN);
  const {
    upgradeTimeout = DEFAULTS.upgradeTimeout,
    drainTimeout = 30_000,
    exitTimeout = 10_000,
    probation = DEFAULTS.probation,
    maxDraining = DEFAULTS.maxDraining,
    controlSocket,
    signals = {},
    unmanaged = "refuse",
    tls = true,
    compileCache = false,
    address,
    release = process.env["HANDOVER_RELEASE"] || undefined,
    stopDelay = 0,
    spawn = {},
  } = options;
  const pidFile = path("pidFile", options.pidFile, directory);
  const control = controlSocket === false ? false : path("controlSocket", controlSocket, directory);
  return {
    upgradeTimeout: milliseconds("upgradeTimeout", upgradeTimeout, 1),
    drainTimeout: milliseconds("drainTimeout", drainTimeout, 0),
    exitTimeout: milliseconds("exitTimeout", exitTimeout, 0),
    probation: milliseconds("probation", probation, 0),
    maxDraining: integer("maxDraining", maxDraining, 1, MAX_FDS),
    pidFile,
    controlSocket: control ?? (pidFile === undefined ? true : `${pidFile}.sock`),
    signals: readSignals(signals),
    unmanaged: readUnmanaged(unmanaged),
    tls: flag("tls", tls),
    compileCache: readCompileCache(compileCache, directory),
    exchange: readExchange(options.exchange),
    address: text("address", address),
    release: text("release", release),
    stopDelay: milliseconds("stopDelay", stopDelay, 0),
    spawn: readSpawn(spawn),
    computesSpawn: typeof spawn === "function",
  };
}

const KNOWN = [
  "upgradeTimeout",
  "drainTimeout",
  "exitTimeout",
  "probation",
  "maxDraining",
  "pidFile",
  "controlSocket",
  "signals",
  "unmanaged",
  "tls",
  "compileCache",
  "exchange",
  "address",
  "release",
  "stopDelay",
  "spawn",
] satisfies (keyof UpgraderOptions)[];

/**
 * An absolute path; undefined for undefined.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function path(
  name: string,
  value: unknown,
  directory: string,
  expected = "a path",
): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && value !== "" && !value.includes("\0")) return resolve(directory, value);
  throw wrongOption(name, expected, value);
}

function readCompileCache(value: unknown, directory: string): string | undefined {
  if (value === false) return undefined;
  if (value !== true) return path("compileCache", value, directory, "true, false or a path");
  return join(userCaches(), "handover");
}

/** A relative path in the environment, as an empty one, would be a place in the working directory. */
function userCaches(): string {
  const { XDG_CACHE_HOME: given, HOME } = process.env;
  if (given !== undefined && isAbsolute(given)) return given;
  try {
    const home = HOME !== undefined && isAbsolute(HOME) ? HOME : builtins.os.userInfo().homedir;
    return join(home, ".cache");
  } catch (cause) {
    const why = "cannot be true: this user has no home directory; set HOME, or give the path of a directory";
    throw new WrongOption("compileCache", why, { cause });
  }
}

function readUnmanaged(value: unknown): Settings["unmanaged"] {
  if (value === "refuse" || value === "allow") return value;
  throw wrongOption("unmanaged", '"refuse" or "allow"', value);
}

function isHostExchange(value: unknown): value is HostExchange {
  return typeof (value as Partial<HostExchange> | null)?.join === "function";
}

function readExchange(value: unknown): HostExchange | undefined {
  if (value === undefined || isHostExchange(value)) return value;
  // It is not repeated, as it may have a password.
  throw new WrongOption("exchange", "must be what postgres(), etcd() or kubernetesLease() returns");
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readSignals(options: SignalOptions | false): Settings["signals"] {
  if (options === false) return { upgrade: undefined, stop: [] };
  refuseUnknown('the option "signals"', options, ["upgrade", "stop"]);
  const { upgrade = "SIGHUP", stop = ["SIGTERM", "SIGINT"] } = options;
  if (!Array.isArray(stop)) throw wrongOption("signals.stop", "an array of signal names", stop);
  const all: unknown[] = upgrade === false ? [...stop] : [upgrade, ...stop];
  for (const name of all) {
    if (typeof name !== "string" || !isSignal(name) || UNCATCHABLE.has(name)) {
      throw wrongOption("signals", "names of signals that can be caught", name);
    }
  }
  if (new Set(all).size < all.length) throw wrongOption("signals", "different signals", options);
  return { upgrade: upgrade === false ? undefined : upgrade, stop: stop as NodeJS.Signals[] };
}

/** A start with the default signals does not load `node:os`. */
function isSignal(name: string): boolean {
  return DEFAULT_SIGNALS.includes(name) || Object.hasOwn(builtins.os.constants.signals, name);
}

const DEFAULT_SIGNALS = ["SIGHUP", "SIGTERM", "SIGINT"];

/** A listener for one of these is refused by the kernel, or by Node. */
const UNCATCHABLE = new Set(["SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGPROF"]);

function readSpawn(spawn: unknown): () => CommandOverride {
  const known = ["command", "args", "cwd", "env"];
  if (typeof spawn === "function") {
    return () => {
      const override = call(spawn as () => CommandOverride);
      refuseUnknown('what the option "spawn" returned', override, known);
      return override;
    };
  }
  refuseUnknown('the option "spawn"', spawn as object, known);
  return () => spawn as CommandOverride;
}

/** An exception of the program's function fails the upgrade, with a code. */
function call(spawn: () => CommandOverride): CommandOverride {
  try {
    return spawn();
  } catch (cause) {
    const message = `cannot start a successor: the option "spawn" threw: ${reasonOf(cause)}`;
    throw new HandoverError("ERR_SPAWN", message, { cause });
  }
}
