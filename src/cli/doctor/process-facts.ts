import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { HandoverError, reasonOf } from "../../errors.js";
import { isSameFile } from "../../platform/path.js";
import { ancestorsOf, readBlock, readStat, type Ancestor } from "../../platform/proc.js";
import { findWaitingParent } from "../../process/parents.js";

/** A process as `/proc` describes it. */
export interface ProcessFacts {
  pid: number;
  /** Its PID in the innermost namespace that it is in. */
  innerPid: number;
  user: { uid: number; gids: number[] };
  words: string[];
  env: NodeJS.ProcessEnv;
  /** The physical working directory; it ends with ` (deleted)` if it was deleted. */
  cwd: string;
  hasTerminal: boolean;
  /** `limit` is the soft limit, which Node raises to the hard one when it starts. */
  descriptors: { open: number; limit: number };
  /** in bytes */
  resident: number;
  /** The nearest first. */
  ancestors: Ancestor[];
  /** The parent that waits for its end. */
  waitingParent: Ancestor | undefined;
  /** Its paths lead to other files than the same paths here. */
  hasOtherRoot: boolean;
}

/**
 * Reads the facts about a process.
 *
 * @throws {HandoverError} `ERR_CONTROL` if it has exited, or belongs to another user
 */
export function readProcess(pid: number): ProcessFacts {
  try {
    const status = readStatus(pid);
    const ancestors = ancestorsOf(pid);
    return {
      pid,
      innerPid: Number(words(status, "NSpid").at(-1) ?? pid),
      user: userOf(status),
      words: readBlock(pid, "cmdline"),
      env: readEnvironment(pid),
      cwd: readlinkSync(`/proc/${pid}/cwd`),
      hasTerminal: readStat(pid)[4] !== "0",
      descriptors: { open: readdirSync(`/proc/${pid}/fd`).length, limit: descriptorLimit(pid) },
      resident: Number(words(status, "VmRSS")[0] ?? 0) * 1_024,
      ancestors,
      waitingParent: findWaitingParent(pid, ancestors),
      hasOtherRoot: !isSameFile(`/proc/${pid}/root/`, "/"),
    };
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why =
      code === "ENOENT" || code === "ESRCH"
        ? process.platform === "linux"
          ? "there is no such process"
          : "there is no /proc on this system"
        : code === "EACCES" || code === "EPERM"
          ? "it belongs to another user; run this as that user or as root"
          : reasonOf(cause);
    throw new HandoverError("ERR_CONTROL", `cannot examine process ${pid}: ${why}`, { cause });
  }
}

/** The soft limit of descriptors for a process that is started from here; undefined without /proc. */
export function ownDescriptorLimit(): number | undefined {
  return existsSync("/proc/self/limits") ? descriptorLimit("self") : undefined;
}

function descriptorLimit(pid: number | "self"): number {
  const [, soft] = /^Max open files +(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, "utf8")) ?? [];
  return soft === "unlimited" ? Infinity : Number(soft);
}

function readStatus(pid: number): Map<string, string> {
  const lines = readFileSync(`/proc/${pid}/status`, "utf8").split("\n");
  return new Map(lines.map((line) => [line.split(":", 1)[0]!, line.slice(line.indexOf(":") + 1).trim()]));
}

function words(status: Map<string, string>, name: string): string[] {
  return (status.get(name) ?? "").split(/\s+/).filter(Boolean);
}

/** The effective ones: real, effective, saved, file system. */
function userOf(status: Map<string, string>): ProcessFacts["user"] {
  const gids = [words(status, "Gid")[1], ...words(status, "Groups")];
  return { uid: Number(words(status, "Uid")[1]), gids: gids.map(Number) };
}

function readEnvironment(pid: number): NodeJS.ProcessEnv {
  const pairs = readBlock(pid, "environ").map((line) => line.split(/=(.*)/s, 2));
  return Object.fromEntries(pairs) as NodeJS.ProcessEnv;
}
