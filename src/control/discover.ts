import { existsSync, readFileSync, statSync } from "node:fs";
import { HandoverError, reasonOf } from "../errors.js";
import { socketInodes } from "../platform/proc.js";
import { parseUnixSockets } from "../platform/proc-net.js";
import { ControlClient } from "./client.js";
import { CONTROL_SOCKET_MODE } from "./protocol.js";

/**
 * Connects to the control socket of a process: the one among those that it listens on which greets with this
 * very PID. Only Linux tells what a process listens on.
 *
 * @throws {HandoverError} `ERR_CONTROL`
 */
export async function connectToPid(pid: number): Promise<ControlClient> {
  if (!isAlive(pid)) throw new HandoverError("ERR_CONTROL", `there is no process ${pid}`);
  const found = new AbortController();
  let other: ControlClient | undefined;
  const attempts = listeningPaths(pid).map(async (path) => {
    const client = await ControlClient.connect(path, PATIENCE, found.signal);
    if (client.pid === pid) return client;
    client.close();
    other = client;
    throw new HandoverError("ERR_CONTROL", `process ${client.pid} answers at ${path}`);
  });
  try {
    return await Promise.any(attempts);
  } catch {
    throw notFound(pid, other);
  } finally {
    found.abort();
  }
}

/**
 * Connects to the process that a PID file names: at `<file>.sock` where that greets, else as by its PID.
 *
 * @throws {HandoverError} `ERR_PID_FILE`, `ERR_CONTROL`
 */
export async function connectToPidFile(file: string): Promise<ControlClient> {
  const pid = readPid(file);
  if (!isAlive(pid)) {
    throw new HandoverError("ERR_PID_FILE", `process ${pid}, which the PID file ${file} names, is gone`);
  }
  const beside = `${file}.sock`;
  if (existsSync(beside)) {
    try {
      return await ControlClient.connect(beside);
    } catch {
      // Not a control socket, or one that was left behind: the process may have another.
    }
  }
  return connectToPid(pid);
}

/** How long a candidate may take to greet, in ms. All are asked at once, as a busy process needs its time. */
const PATIENCE = 2_000;

const HINT =
  "it has already been replaced, or its new Upgrader() has neither pidFile nor controlSocket; " +
  "where it has one, it can be named by --pid-file or --control, too";

function notFound(pid: number, other: ControlClient | undefined): HandoverError {
  const message =
    other === undefined
      ? `cannot find a control socket of process ${pid}: ${HINT}`
      : `process ${pid} does not accept: at its control socket ${other.path} process ${other.pid} answers`;
  return new HandoverError("ERR_CONTROL", message);
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
  throw new HandoverError("ERR_PID_FILE", `the PID file ${file} holds no PID, but ${start}`);
}

/** A zombie is dead, whatever kill(2) says. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** The files of the Unix sockets that a process listens on, or has a descriptor of, and that may be a control socket. */
function listeningPaths(pid: number): string[] {
  try {
    const own = socketInodes(pid);
    return parseUnixSockets(readFileSync("/proc/net/unix", "utf8"))
      .filter(({ listens, path, inode }) => listens && path.startsWith("/") && own.has(inode))
      .map(({ path }) => path)
      .filter(isPrivate);
  } catch (cause) {
    const message = `cannot look for the control socket of process ${pid}: ${whyHidden(cause)}`;
    throw new HandoverError("ERR_CONTROL", message, { cause });
  }
}

/** As a control socket is. A server of the program's own expects clients that stay for its answer. */
function isPrivate(path: string): boolean {
  try {
    return (statSync(path).mode & 0o777) === CONTROL_SOCKET_MODE;
  } catch {
    return false;
  }
}

function whyHidden(cause: unknown): string {
  const { code } = cause as NodeJS.ErrnoException;
  return code === "EACCES"
    ? "it is another user's"
    : `${reasonOf(cause)}; name it by --pid-file or --control`;
}
