import { resolve } from "node:path";
import { constants } from "node:os";
import { HandoverError, reasonOf } from "./errors.js";
import { MAX_FDS } from "./platform/native.js";
import { integer, milliseconds, refuseUnknown, wrongOption } from "./util/validation.js";

/** Options of `new Upgrader()`. Times are in milliseconds. */
export interface UpgraderOptions {
  /** How long a successor may take from its start until it is ready; then it is killed. Default 60 000. */
  upgradeTimeout?: number;
  /** How long the connections of a replaced or stopped process may take to end. Default 30 000. */
  drainTimeout?: number;
  /** How long a process may live on after `exit` has resolved; then it is ended with code 1. Default 10 000. */
  exitTimeout?: number;
  /** How long after the commit a successor that dies is rolled back; 0 switches it off. Default 3 000. */
  probation?: number;
  /** How many older generations may drain at the same time. Default 4, at most 253. */
  maxDraining?: number;
  /** Where the process that accepts keeps its PID. Default: no PID file. */
  pidFile?: string;
  /** Where `handover upgrade`, `status` and `stop` reach this process. Default `<pidFile>.sock`; `false`: nowhere. */
  controlSocket?: string | false;
  /** What signals do; `false`: nothing. Default SIGHUP upgrades, SIGTERM and SIGINT stop. */
  signals?: SignalOptions | false;
  /** What a successor is started with, where it is not what the first process was started with. */
  spawn?: CommandOverride | (() => CommandOverride);
}

export interface SignalOptions {
  /** Default "SIGHUP"; `false`: none. */
  upgrade?: NodeJS.Signals | false;
  /** Default ["SIGTERM", "SIGINT"]. */
  stop?: readonly NodeJS.Signals[];
}

/** What the option `spawn` may say; what it leaves out is as this process was started. */
export interface CommandOverride {
  /** A path, relative to `cwd`, or a name to be looked up on `PATH`. */
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
  readonly controlSocket: string | undefined;
  readonly signals: {
    readonly upgrade: NodeJS.Signals | undefined;
    readonly stop: readonly NodeJS.Signals[];
  };
  readonly spawn: () => CommandOverride;
  /** Whether `spawn` runs the program's own code. */
  readonly computesSpawn: boolean;
}

/**
 * Checks what a user gave and fills in the defaults. Relative paths are resolved against `directory`.
 *
 * @throws {HandoverError} `ERR_OPTION`, naming the option and the value.
 */
export function readOptions(options: UpgraderOptions, directory: string): Settings {
  refuseUnknown("new Upgrader()", options, KNOWN);
  const {
    upgradeTimeout = 60_000,
    drainTimeout = 30_000,
    exitTimeout = 10_000,
    probation = 3_000,
    maxDraining = 4,
    controlSocket,
    signals = {},
    spawn = {},
  } = options;
  const pidFile = path("pidFile", options.pidFile, directory);
  const control = controlSocket === false ? undefined : path("controlSocket", controlSocket, directory);
  return {
    upgradeTimeout: milliseconds("upgradeTimeout", upgradeTimeout, 1),
    drainTimeout: milliseconds("drainTimeout", drainTimeout, 0),
    exitTimeout: milliseconds("exitTimeout", exitTimeout, 0),
    probation: milliseconds("probation", probation, 0),
    maxDraining: integer("maxDraining", maxDraining, 1, MAX_FDS),
    pidFile,
    controlSocket: controlSocket === false ? undefined : (control ?? (pidFile && `${pidFile}.sock`)),
    signals: readSignals(signals),
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
  "spawn",
] satisfies (keyof UpgraderOptions)[];

function path(name: string, value: unknown, directory: string): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && value !== "" && !value.includes("\0")) return resolve(directory, value);
  throw wrongOption(name, "a path", value);
}

function readSignals(options: SignalOptions | false): Settings["signals"] {
  if (options === false) return { upgrade: undefined, stop: [] };
  refuseUnknown('the option "signals"', options, ["upgrade", "stop"]);
  const { upgrade = "SIGHUP", stop = ["SIGTERM", "SIGINT"] } = options;
  if (!Array.isArray(stop)) throw wrongOption("signals.stop", "an array of signal names", stop);
  const all: unknown[] = upgrade === false ? [...stop] : [upgrade, ...stop];
  for (const name of all) {
    if (typeof name !== "string" || !Object.hasOwn(constants.signals, name) || UNCATCHABLE.has(name)) {
      throw wrongOption("signals", "names of signals that can be caught", name);
    }
  }
  if (new Set(all).size < all.length) throw wrongOption("signals", "different signals", options);
  return { upgrade: upgrade === false ? undefined : upgrade, stop: stop as NodeJS.Signals[] };
}

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

/** What a program's own function throws fails the upgrade as everything else does. */
function call(spawn: () => CommandOverride): CommandOverride {
  try {
    return spawn();
  } catch (cause) {
    const message = `cannot start a successor: the option "spawn" threw: ${reasonOf(cause)}`;
    throw new HandoverError("ERR_SPAWN", message, { cause });
  }
}
