import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/*
 * The formats of proc(5) that more than one place reads. What cannot be read throws: only who asks knows what that
 * means.
 */

/** The fields of `stat` from `state` on; the name before them, in parentheses, may contain anything. */
export function readStat(pid: number | "self"): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** The words between the NULs. */
export function readBlock(pid: number | "self", file: "cmdline" | "environ"): string[] {
  const words = readFileSync(`/proc/${pid}/${file}`, "utf8").split("\0");
  return words.at(-1) === "" ? words.slice(0, -1) : words;
}

/** The inodes of a process's sockets. */
export function socketInodes(pid: number | string): Set<string> {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? [];
      if (inode !== undefined) inodes.add(inode);
    } catch {
      // Closed meanwhile, as the one that has read this process's own directory.
    }
  }
  return inodes;
}

/** A Unix socket that has a name. */
interface UnixSocket {
  /** Or `@abstract`. */
  path: string;
  inode: string;
  listens: boolean;
}

/** Reads the table `net/unix`. */
export function parseUnixSockets(table: string): UnixSocket[] {
  return table.split("\n").flatMap((line) => {
    const [, flags, inode, path] = /^\S+ \S+ \S+ (\S+) \S+ \S+ +(\d+) (.+)$/.exec(line) ?? [];
    if (inode === undefined || path === undefined) return [];
    return [{ path, inode, listens: (Number(`0x${flags}`) & ACCEPTS) !== 0 }];
  });
}

/** __SO_ACCEPTCON */
const ACCEPTS = 0x10000;
