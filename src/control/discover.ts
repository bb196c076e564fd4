import { existsSync, readFileSync, statSync } from "node:fs";
import { HandoverError, reasonOf } from "../errors.js";
import { ancestorsOf, readBlock, readStat, socketInodes } from "../platform/proc.js";
import { parseUnixSockets } from "../platform/proc-net.js";
import { ControlClient, isSocket } from "./client.js";
import { CONTROL_SOCKET_MODE } from "./protocol.js";

/**
 * Connects to the control socket of a process: of the sockets that the process listens on, the one that greets with
 * its PID. Only Linux shows the sockets of a process.
 *
 * @throws {HandoverError} `ERR_CONTROL`
 */
export async function connectToPid(pid: number): Promise<ControlClient> {
  if (!isAlive(pid)) throw new HandoverError("ERR_CONTROL", `there is no process ${pid}`);
  const found = new AbortController();
  let other: ControlClient | undefined;
  const paths = listeningPaths(pid);
  const attempts = paths.filter(isPrivate).map(async (path) => {
    const client = await ControlClient.connect(path, GREETING_TIMEOUT, found.signal);
    if (client.pid === pid) {
      client.requireOwner(pid);
      return client;
    }
    client.close();
    other = client;
    throw new HandoverError("ERR_CONTROL", `process ${client.pid} answers at ${path}`);
  });
  try {
    return await Promise.any(attempts);
  } catch {
    throw notFound(pid, other, paths);
  } finally {
    found.abort();
  }
}

/**
 * Connects to the process that a PID file names: at `<file>.sock` if that greets, otherwise by its PID.
 *
 * @throws {HandoverError} `ERR_PID_FILE`, `ERR_CONTROL`
 */
export async function connectToPidFile(file: string): Promise<ControlClient> {
  const pid = readPid(file);
  if (!isAlive(pid)) {
    throw new HandoverError("ERR_PID_FILE", `process ${pid}, which the PID file ${file} names, has exited`);
  }
  const beside = `${file}.sock`;
  const client = existsSync(beside) ? await connectIfGreeted(beside) : undefined;
  client?.requireOwner(pid);
  return client ?? connectToPid(pid);
}

/** Undefined if it is no control socket, or a stale one: the process may have another. */
async function connectIfGreeted(path: string): Promise<ControlClient | undefined> {
  try {
    return await ControlClient.connect(path);
  } catch {
    return undefined;
  }
}

/** ms a socket may take to greet. All are asked at the same time, because a busy process answers late. */
export const GREETING_TIMEOUT = 2_000;

const HINT =
  "it has already been replaced, or is not ready yet, or its new Upgrader() has controlSocket: false, or neither pidFile " +
  "nor controlSocket and no runtime directory; if it has a control socket, name it by --pid-file or --control";

/** @param paths at which the process listens */
function notFound(pid: number, other: ControlClient | undefined, paths: string[]): HandoverError {
  return new HandoverError("ERR_CONTROL", whyNotFound(pid, other, paths));
}

function whyNotFound(pid: number, other: ControlClient | undefined, paths: string[]): string {
  if (other !== undefined)
    return `process ${pid} no longer accepts: process ${other.pid} answers at its control socket ${other.path}`;
  const removed = paths.find((path) => !isSocket(path));
  if (removed !== undefined)
    return `cannot reach process ${pid}: it listens at ${removed}, and that file was removed; an upgrade by signal creates a control socket again`;
  const worker = workerOf(pid);
  if (worker !== undefined)
    return `process ${pid} is worker ${worker.index} of a service, and its supervisor, process ${worker.supervisor}, answers for it`;
  return `cannot find a control socket of process ${pid}: ${HINT}`;
}

/** The supervisor of a worker, or of a process that a worker has started; undefined of any other process. */
export function workerOf(pid: number): { index: string; supervisor: number } | undefined {
  const index = workerIndex(pid);
  if (index === undefined) return undefined;
  const supervisor = ancestorsOf(pid).find((one) => workerIndex(one.pid) === undefined);
  return supervisor === undefined ? undefined : { index, supervisor: supervisor.pid };
}

/** From its environment; undefined if this user may not read that. */
function workerIndex(pid: number): string | undefined {
  try {
    return readBlock(pid, "environ")
      .find((line) => line.startsWith("HANDOVER_WORKER="))
      ?.slice("HANDOVER_WORKER=".length);
  } catch {
    return undefined;
  }
}

/**
 * The PID that a file names.
 *
 * @throws {HandoverError} `ERR_PID_FILE`
 */
export function readPid(file: string): number {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    const why =
      (cause as NodeJS.ErrnoException).code === "ENOENT" ? "there is no such file" : reasonOf(cause);
    throw new HandoverError("ERR_PID_FILE", `cannot read the PID file ${file}: ${why}`, { cause });
  }
  if (/^\s*[1-9]\d{0,9}\s*$/.test(text)) return Number(text);
  const start = JSON.stringify(text.slice(0, 20));
  throw new HandoverError("ERR_PID_FILE", `the PID file ${file} contains no PID, but ${start}`);
}

/** Whether a process is alive. A zombie is not, although kill(2) accepts it. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return readStat(pid)[0] !== "Z";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/**
 * The paths of the private sockets on which a process listens: its control socket is among them, if it has one.
 *
 * @throws {HandoverError} `ERR_CONTROL`
 */
export function privatePaths(pid: number): string[] {
  return listeningPaths(pid).filter(isPrivate);
}

/** The paths of Unix sockets that a process has a descriptor of, and that may be its control socket. */
function listeningPaths(pid: number): string[] {
  try {
    const own = socketInodes(pid);
    return parseUnixSockets(readFileSync("/proc/net/unix", "utf8"))
      .filter(({ listens, path, inode }) => listens && path.startsWith("/") && own.has(inode))
      .map(({ path }) => path);
  } catch (cause) {
    const message = `cannot look for the control socket of process ${pid}: ${whyUnreadable(cause)}`;
    throw new HandoverError("ERR_CONTROL", message, { cause });
  }
}

/**
 * Whether a socket has the mode of a control socket. Another server of the program must not see clients that only
 * look.
 */
function isPrivate(path: string): boolean {
  try {
    return (statSync(path).mode & 0o777) === CONTROL_SOCKET_MODE;
  } catch {
    return false;
  }
}

function whyUnreadable(cause: unknown): string {
  const { code } = cause as NodeJS.ErrnoException;
  return code === "EACCES"
    ? "it belongs to another user"
    : `${reasonOf(cause)}; name it by --pid-file or --control`;
}
