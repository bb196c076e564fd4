import { readdirSync, readFileSync } from "node:fs";
import type { RequestedAddress } from "../address.js";
import { parseUnixSockets, socketInodes } from "../platform/proc.js";

/**
 * Who holds an address, in words, as far as Linux's `/proc` tells this user; about 10 ms. Undefined where it
 * does not.
 */
export function findPortOwner(
  address: RequestedAddress,
  predecessor: number | undefined,
): string | undefined {
  try {
    const inodes = new Set(
      address.kind === "unix" ? unixInodes(address.path) : portInodes(address.kind, address.port),
    );
    inodes.delete("");
    const pids = pidsWith(inodes);
    const pid = pids.find((one) => one === predecessor) ?? pids.find((one) => one !== process.pid) ?? pids[0];
    if (pid === undefined) return undefined;
    if (pid === predecessor) return `pid ${pid}, the predecessor`;
    return pid === process.pid ? "this process" : `pid ${pid}`;
  } catch {
    return undefined;
  }
}

/** Sockets bound to a port; of TCP those that listen (state 0A). */
function portInodes(kind: "tcp" | "udp", port: number): string[] {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  return [kind, `${kind}6`].flatMap((file) =>
    table(file)
      .filter(
        ([, local, , state]) => local?.endsWith(`:${hex}`) === true && (kind === "udp" || state === "0A"),
      )
      .map((fields) => fields[9] ?? ""),
  );
}

function unixInodes(path: string): string[] {
  const shown = path.replaceAll("\0", "@");
  const sockets = parseUnixSockets(readFileSync("/proc/net/unix", "utf8"));
  return sockets.filter((one) => one.path === shown).map(({ inode }) => inode);
}

function table(name: string): string[][] {
  const lines = readFileSync(`/proc/net/${name}`, "utf8").split("\n").slice(1);
  return lines.map((line) => line.trim().split(/\s+/));
}

function pidsWith(inodes: ReadonlySet<string>): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => [...inodesOf(pid)].some((inode) => inodes.has(inode))).map(Number);
}

/** None of another user's process, or of one that has gone meanwhile. */
function inodesOf(pid: string): ReadonlySet<string> {
  try {
    return socketInodes(pid);
  } catch {
    return new Set();
  }
}
