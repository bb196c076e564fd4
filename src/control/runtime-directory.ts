import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { HandoverError } from "../errors.js";
import { parseUnixSockets } from "../platform/proc-net.js";
import { isStale } from "../sockets/stale-socket.js";

/*
 * The control sockets to which no option gives a path. All those of one user are in one directory, each under a name of its
 * own, so that two copies of one program do not clash.
 */

/**
 * The directory: `$XDG_RUNTIME_DIR/handover`, or else `/run/user/<uid>/handover`; for root `/run/handover`. It may have to be
 * made. Undefined if this user has no directory for it.
 */
export function runtimeDirectory(): string | undefined {
  const user = process.geteuid?.();
  if (user === undefined) return undefined;
  const session = `/run/user/${user}`;
  const given = process.env["XDG_RUNTIME_DIR"];
  // A service that systemd starts for root does not know root's session directory, and a session's end removes that.
  const choice = user === 0 ? [given === session ? undefined : given, "/run"] : [given, session];
  const base = choice.find((one) => one !== undefined && isAbsolute(one) && isDirectoryOf(user, one));
  return base === undefined ? undefined : `${base}/handover`;
}

/**
 * A path for a new control socket; undefined if there is no directory for it. Removes the sockets of dead processes soon.
 *
 * @throws {HandoverError} `ERR_CONTROL` if others can reach the directory
 */
export function newSocketPath(): string | undefined {
  const directory = runtimeDirectory();
  if (directory === undefined) return undefined;
  if (!requirePrivate(directory) && !make(directory)) return undefined;
  // Not before this process listens: it asks a socket for each process that was killed.
  setImmediate(() => {
    try {
      removeStale(directory);
    } catch {
      // Others can reach the directory by now, or it has gone: the next start removes them.
    }
  });
  return `${directory}/${newName()}.sock`;
}

/**
 * The paths of the control sockets in the directory. Removes the sockets of dead processes.
 *
 * @throws {HandoverError} `ERR_CONTROL` if others can reach the directory
 */
export function findSocketPaths(): string[] {
  const directory = runtimeDirectory();
  return directory === undefined ? [] : removeStale(directory);
}

/**
 * Makes the directory. An exception takes longer than the rest of this file at a start, so it is made only if it is missing.
 *
 * @throws {HandoverError} `ERR_CONTROL` if others can reach the directory that another process has made meanwhile
 */
function make(directory: string): boolean {
  try {
    mkdirSync(directory, { mode: 0o700 });
    return true;
  } catch {
    // A service may run in a file system that it cannot write to.
    return requirePrivate(directory);
  }
}

/** Whether {@link newSocketPath} has made a path, in this process or in an older generation. */
export function isAutomatic(path: string): boolean {
  return /\/handover\/[\da-f]{16}\.sock$/.test(path);
}

/** 16 hexadecimal digits: the PID, as two processes may be seeded alike, and a random number, as PIDs come again. */
function newName(): string {
  const number = Math.floor(Math.random() * 16 ** 10);
  return process.pid.toString(16).padStart(6, "0") + number.toString(16).padStart(10, "0");
}

/** Removes the sockets of processes that were killed. Returns the paths of the others. */
function removeStale(directory: string): string[] {
  if (!requirePrivate(directory)) return [];
  const paths = readdirSync(directory)
    .map((name) => join(directory, name))
    .filter(isAutomatic);
  const bound = boundPaths();
  const unbound = paths.filter((path) => !bound.has(path));
  const stale = unbound.filter(isStale);
  if (stale.length === 0) return paths;
  // A socket that was bound meanwhile, and does not listen yet, refuses connections as one that was abandoned does.
  const boundMeanwhile = boundPaths();
  const abandoned = new Set(stale.filter((path) => !boundMeanwhile.has(path)));
  for (const path of abandoned) rmSync(path, { force: true });
  return paths.filter((path) => !abandoned.has(path));
}

/** The paths of the Unix sockets of this network namespace. */
function boundPaths(): Set<string> {
  try {
    return new Set(parseUnixSockets(readFileSync("/proc/net/unix", "utf8")).map(({ path }) => path));
  } catch {
    // There is no /proc.
    return new Set();
  }
}

/**
 * Whether the directory exists.
 *
 * @throws {HandoverError} `ERR_CONTROL` if others could put a socket of theirs into it, or connect to those in it
 */
function requirePrivate(directory: string): boolean {
  const found = lstatSync(directory, { throwIfNoEntry: false, ...LIKE_LISTENERS });
  if (found === undefined) return false;
  const { uid, mode } = found;
  if (found.isDirectory() && Number(uid) === process.geteuid?.() && (mode & 0o077n) === 0n) return true;
  const why = found.isDirectory()
    ? `it belongs to uid ${uid} and has mode ${(mode & 0o777n).toString(8)}, and must be this user's with mode 700`
    : "it is not a directory";
  throw new HandoverError("ERR_CONTROL", `cannot use ${directory} for control sockets: ${why}`);
}

/** As the file of a listener is identified: for numbers V8 would compile as many functions again at a start. */
const LIKE_LISTENERS = { bigint: true } as const;

function isDirectoryOf(user: number, path: string): boolean {
  try {
    const found = statSync(path, { throwIfNoEntry: false, ...LIKE_LISTENERS });
    return found !== undefined && found.isDirectory() && Number(found.uid) === user;
  } catch {
    return false;
  }
}
