import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";

/*
 * Processes, as proc(5) describes them. A file that cannot be read throws, unless a function says otherwise: only its
 * caller knows what that means.
 */

/** The fields of `stat` from `state` on; the name before them, in parentheses, may contain anything. */
export function readStat(pid: number | "self"): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** The strings of a file whose strings end with a NUL. */
export function readBlock(pid: number | "self", file: "cmdline" | "environ"): string[] {
  return stringsOf(readFileSync(`/proc/${pid}/${file}`, "utf8"));
}

/** The strings of such a file. */
export function stringsOf(block: string): string[] {
  const words = block.split("\0");
  return words.at(-1) === "" ? words.slice(0, -1) : words;
}

export interface Ancestor {
  pid: number;
  /** As the kernel calls it: at most 15 characters. */
  name: string;
  words: string[];
}

/** The ancestors of a process, the nearest first, as far as they can be read. */
export function ancestorsOf(pid: number | "self", most = Infinity): Ancestor[] {
  const found: Ancestor[] = [];
  try {
    // The parent of the first process in a PID namespace is 0.
    for (let one = parentOf(pid); one > 0 && found.length < most; one = parentOf(one)) {
      const name = readFileSync(`/proc/${one}/comm`, "utf8").trimEnd();
      found.push({ pid: one, name, words: readBlock(one, "cmdline") });
    }
  } catch {
    // There is no /proc, or an ancestor has exited: the ones below it are enough.
  }
  return found;
}

function parentOf(pid: number | "self"): number {
  return Number(readStat(pid)[1]);
}

/** The inodes of the sockets that a process has descriptors of. */
export function socketInodes(pid: number | "self"): Set<string> {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? [];
      if (inode !== undefined) inodes.add(inode);
    } catch {
      // Closed since the directory was read, as the descriptor that has read it is.
    }
  }
  return inodes;
}

/** The processes that have a descriptor of one of these sockets, as far as this user may see them. */
export function* findSocketOwners(inodes: ReadonlySet<string>): Generator<number> {
  for (const pid of processes()) if (hasSocket(pid, inodes)) yield pid;
}

/** The processes of a user that have loaded a file whose path matches; none where there is no /proc. */
export function* findUsersOf(file: RegExp, user: number): Generator<number> {
  for (const pid of processes()) if (hasLoaded(pid, file, user)) yield pid;
}

function processes(): number[] {
  try {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}

/** Whether a process of a user has loaded a file whose path matches; false if it may not be looked at. */
export function hasLoaded(pid: number, file: RegExp, user: number): boolean {
  try {
    return statSync(`/proc/${pid}`).uid === user && file.test(readFileSync(`/proc/${pid}/maps`, "utf8"));
  } catch {
    // It may not be looked at, or has exited.
    return false;
  }
}

function hasSocket(pid: number, inodes: ReadonlySet<string>): boolean {
  try {
    return [...socketInodes(pid)].some((inode) => inodes.has(inode));
  } catch {
    // Another user's process, or one that has exited.
    return false;
  }
}
