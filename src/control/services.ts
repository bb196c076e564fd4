import { readlinkSync } from "node:fs";
import { ADDON_FILE } from "../platform/addon.js";
import { native } from "../platform/native.js";
import { findUsersOf, readBlock } from "../platform/proc.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { ControlClient, NoAnswer } from "./client.js";
import { GREETING_TIMEOUT, privatePaths } from "./discover.js";
import type { Status } from "./protocol.js";
import { findSocketPaths } from "./runtime-directory.js";

/** A service of this user. */
export interface FoundService {
  /** Of its control socket. */
  path: string;
  /** The process that serves; undefined if it does not answer, and cannot be told from outside. */
  pid: number | undefined;
  /** Undefined if the process does not answer. */
  client: ControlClient | undefined;
}

/**
 * Finds the services of this user that have a control socket. All generations of one service share one control socket.
 * Looks into the runtime directory, and at the sockets of the processes that have loaded the addon.
 *
 * @throws {HandoverError} `ERR_CONTROL` if others can reach the runtime directory, `ERR_NOT_SUPPORTED` without the addon
 */
export async function findServices(): Promise<FoundService[]> {
  // No socket is asked whose user is not known.
  native();
  const automatic = findSocketPaths();
  const holders = pathsOfProcesses();
  const paths = new Set([...automatic, ...[...holders.values()].flat()]);
  const answers = new Map(
    await Promise.all([...paths].map(async (path) => [path, await greet(path)] as const)),
  );
  const found: FoundService[] = [];
  const silent = new Map<number | string, FoundService>();
  for (const [path, answer] of answers) {
    if (answer instanceof ControlClient) found.push({ path, pid: answer.pid, client: answer });
    if (answer !== "silent") continue;
    const [pid, own] = [...holders].find(([, its]) => its.includes(path)) ?? [undefined, []];
    // Where its control socket greets, the silent one is the program's own.
    const greets = own.some((one) => answers.get(one) instanceof ControlClient);
    if (!greets) silent.set(pid ?? path, { path, pid, client: undefined });
  }
  return [...found, ...silent.values()].toSorted((a, b) => (a.pid ?? Infinity) - (b.pid ?? Infinity));
}

/** The status of a service; undefined if it does not report it in time. Closes the connection. */
export async function readStatus({ client }: FoundService): Promise<Status | undefined> {
  if (client === undefined) return undefined;
  try {
    const answer = await withTimeout(STATUS_TIMEOUT, client.ask({ command: "status" }));
    return answer === TIMED_OUT ? undefined : answer.status;
  } catch {
    // It has exited meanwhile.
    return undefined;
  } finally {
    client.close();
  }
}

/** The command and the directory of a process; of its successor, where they are known. */
export function startOf({ pid, command }: Status): { command?: string[]; directory?: string } {
  if (command !== undefined && "words" in command) return { command: command.words, directory: command.cwd };
  try {
    return { command: readBlock(pid, "cmdline"), directory: readlinkSync(`/proc/${pid}/cwd`) };
  } catch {
    return {};
  }
}

/** ms in which a service has to report its status. */
const STATUS_TIMEOUT = 5_000;

/** The private sockets of each process of this user that has loaded handover's addon. */
function pathsOfProcesses(): Map<number, string[]> {
  const user = process.geteuid?.();
  const pids = user === undefined ? [] : [...findUsersOf(ADDON_FILE, user)];
  return new Map(pids.map((pid) => [pid, pathsOf(pid)]));
}

function pathsOf(pid: number): string[] {
  try {
    return privatePaths(pid);
  } catch {
    // It has exited meanwhile.
    return [];
  }
}

async function greet(path: string): Promise<ControlClient | "silent" | undefined> {
  try {
    const client = await ControlClient.connect(path, GREETING_TIMEOUT);
    if (client.isOwn) return client;
    client.close();
    return undefined;
  } catch (error) {
    return error instanceof NoAnswer ? "silent" : undefined;
  }
}
