import { readFileSync, realpathSync } from "node:fs";
import { findSocketOwners, socketInodes } from "../../platform/proc.js";
import { readEphemeralPorts, type PortRange } from "../../sockets/unmanaged.js";
import { formatHost, OPEN_STATE, parseInetSockets, parseUnixSockets } from "../../platform/proc-net.js";

/** A socket that accepts connections or datagrams. */
export interface Listener {
  kind: "tcp" | "udp" | "unix";
  /** As handover writes it: `127.0.0.1:80`, `[::]:80`, a path, `@abstract`. */
  address: string;
  inode: string;
}

/** The listeners of a process, and those of others at the same ports. */
export interface ListenerFacts {
  own: Listener[];
  /** `pid` is the owner, if this user may see it. */
  others: (Listener & { pid: number | undefined })[];
  /** The range from which the system chooses a port if 0 is asked for. */
  ephemeral: PortRange;
}

/** Reads the listeners of a process in its own network namespace. */
export function readListeners(pid: number): ListenerFacts {
  const mine = socketInodes(pid);
  const all = parseListeners((name) => read(`/proc/${pid}/net/${name}`));
  const own = all.filter(({ inode }) => mine.has(inode));
  const taken = new Set(own.flatMap(({ kind, address }) => (kind === "tcp" ? [portOf(address)] : [])));
  const others = all.filter(
    ({ kind, address, inode }) => kind === "tcp" && taken.has(portOf(address)) && !mine.has(inode),
  );
  return {
    own,
    others: others.map((one) => ({ ...one, pid: ownerOf(one) })),
    ephemeral: readEphemeralPorts(),
  };
}

/** Whether a process listens at a path, which may be written in another way. */
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

/** One spelling of an address: an IPv6 address has several. */
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
    // An abstract name is no path.
    return path;
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    // For example, the kernel has no IPv6.
    return "";
  }
}
