import { readFileSync } from "node:fs";
import type { RequestedAddress } from "../address.js";
import { findSocketOwners } from "../platform/proc.js";
import { OPEN_STATE, parseInetSockets, parseUnixSockets } from "../platform/proc-net.js";

/**
 * The process that holds an address, in words. Undefined where Linux's `/proc` does not show it to this user. Takes about
 * 10 ms.
 */
export function findPortOwner(
  address: RequestedAddress,
  predecessor: number | undefined,
): string | undefined {
  const pids = findPortOwners(address);
  const pid = pids.find((one) => one === predecessor) ?? pids.find((one) => one !== process.pid) ?? pids[0];
  if (pid === undefined) return undefined;
  if (pid === predecessor) return `pid ${pid}, the predecessor`;
  return pid === process.pid ? "this process" : `pid ${pid}`;
}

/** The processes that hold an address, as far as Linux's `/proc` shows them to this user. */
export function findPortOwners(address: RequestedAddress): number[] {
  try {
    const inodes =
      address.kind === "unix" ? unixInodes(address.path) : portInodes(address.kind, address.port);
    return [...findSocketOwners(new Set(inodes))];
  } catch {
    return [];
  }
}

/** Sockets bound to a port; of TCP the listening ones. */
function portInodes(kind: "tcp" | "udp", port: number): string[] {
  const sockets = [kind, `${kind}6`].flatMap((name) => parseInetSockets(readTable(name)));
  return sockets
    .filter((one) => one.port === port && (kind === "udp" || one.state === OPEN_STATE.tcp))
    .map(({ inode }) => inode);
}

function unixInodes(path: string): string[] {
  const shown = path.replaceAll("\0", "@");
  const sockets = parseUnixSockets(readTable("unix"));
  return sockets.filter((one) => one.path === shown).map(({ inode }) => inode);
}

function readTable(name: string): string {
  return readFileSync(`/proc/net/${name}`, "utf8");
}
