import { readFileSync, realpathSync } from "node:fs";
import { findSocketOwners, socketInodes } from "../../platform/proc.js";
import { formatHost, OPEN_STATE, parseInetSockets, parseUnixSockets } from "../../platform/proc-net.js";

/** A socket that others can reach. */
export interface Listener {
  kind: "tcp" | "udp" | "unix";
  /** As handover writes it: `127.0.0.1:80`, `[::]:80`, a path, `@abstract`. */
  address: string;
  inode: string;
}

/** Sockets of a process, and those of others at the same ports. */
export interface ListenerFacts {
  own: Listener[];
  /** With who has it, where this user may see that. */
  others: (Listener & { pid: number | undefined })[];
  /** Ports from which the system takes one where 0 is asked for. */
  ephemeral: [number, number];
}

/** What a process listens on, in its own network namespace. */
export function readListeners(pid: number): ListenerFacts {
  const mine = socketInodes(pid);
  const all = parseListeners((name) => read(`/proc/${pid}/net/${name}`));
  const own = all.filter(({ inode }) => mine.has(inode));
  const taken = new Set(own.flatMap(({ kind, address }) => (kind === "tcp" ? [portOf(address)] : [])));
  const others = all.filter(
    ({ kind, address, inode }) => kind === "tcp" && taken.has(portOf(address)) && !mine.has(inode),
  );
  const [low = 32_768, high = 60_999] = read("/proc/sys/net/ipv4/ip_local_port_range")
    .split(/\s+/)
    .map(Number);
  return { own, others: others.map((one) => ({ ...one, pid: ownerOf(one) })), ephemeral: [low, high] };
}

/** Whether a process listens at a path, by whichever name that is called. */
export function listensAt(pid: number, path: string): boolean {
  try {
    const mine = socketInodes(pid);
    const unix = unixListeners(read(`/proc/${pid}/net/unix`));
    const there = unix.filter(({ inode }) => mine.has(inode)).map(({ address }) => realPath(address));
    return there.includes(realPath(path));
  } catch {
    return false;
  }
}

/** Reads the tables `tcp`, `tcp6`, `udp`, `udp6` and `unix` of proc(5). */
export function parseListeners(table: (name: string) => string): Listener[] {
  const inet = (["tcp", "udp"] as const).flatMap((kind) =>
    [kind, `${kind}6`].flatMap((name) => inetListeners(kind, table(name))),
  );
  return [...inet, ...unixListeners(table("unix"))];
}

/** The port of an address; undefined for a path. */
export function portOf(address: string): number | undefined {
  const [, port] = /^[^/@].*:(\d+)$/.exec(address) ?? [];
  return port === undefined ? undefined : Number(port);
}

/** One address in one way of writing: IPv6 has several. */
export function canonical(address: string): string {
  const [, host, port] = /^\[([\da-f:.]+)(?:%.*)?\]:(\d+)$/i.exec(address) ?? [];
  return host === undefined ? address : `${new URL(`http://[${host}]`).hostname}:${port}`;
}

function inetListeners(kind: "tcp" | "udp", table: string): Listener[] {
  const open = parseInetSockets(table).filter(({ state }) => state === OPEN_STATE[kind]);
  return open.map(({ host, port, inode }) => ({
    kind,
    inode,
    address: canonical(`${formatHost(host)}:${port}`),
  }));
}

function unixListeners(table: string): Listener[] {
  const listening = parseUnixSockets(table).filter(({ listens }) => listens);
  return listening.map(({ path, inode }) => ({ kind: "unix", address: path, inode }));
}

function ownerOf({ inode }: Listener): number | undefined {
  return findSocketOwners(new Set([inode])).next().value ?? undefined;
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    // An abstract name.
    return path;
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    // A kernel without IPv6, say.
    return "";
  }
}
