import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { endianness } from "node:os";
import { parseUnixSockets, socketInodes } from "../../platform/proc.js";

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
  return { own, others: others.map((one) => ({ ...one, pid: holderOf(one.inode) })), ephemeral: [low, high] };
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
    [kind, `${kind}6`].flatMap((name) => rows(table(name)).flatMap((row) => inetListener(kind, row))),
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

function rows(text: string): string[][] {
  return text
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/));
}

/** 0A is TCP_LISTEN; of UDP 07 is a socket that is bound, and connected to nobody. */
const OPEN = { tcp: "0A", udp: "07" };

function inetListener(kind: "tcp" | "udp", [, local = "", , state, , , , , , inode]: string[]): Listener[] {
  if (state !== OPEN[kind] || inode === undefined || inode === "0") return [];
  const [host = "", port = ""] = local.split(":");
  const isFour = host.length === 8;
  const groups = isFour ? ipv4(host) : ipv6(host);
  return [{ kind, inode, address: canonical(`${groups}:${Number.parseInt(port, 16)}`) }];
}

function ipv4(hex: string): string {
  return [...bytes(hex)].join(".");
}

function ipv6(hex: string): string {
  const groups = bytes(hex).toString("hex").match(/.{4}/g) ?? [];
  return `[${groups.join(":")}]`;
}

/** The kernel prints an address as the 32-bit numbers that it would be on this machine. */
function bytes(hex: string): Buffer {
  const numbers = Buffer.from(hex, "hex");
  return endianness() === "LE" ? numbers.swap32() : numbers;
}

function unixListeners(table: string): Listener[] {
  const listening = parseUnixSockets(table).filter(({ listens }) => listens);
  return listening.map(({ path, inode }) => ({ kind: "unix", address: path, inode }));
}

function holderOf(inode: string): number | undefined {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const holder = pids.find((pid) => {
    try {
      return socketInodes(pid).has(inode);
    } catch {
      return false;
    }
  });
  return holder === undefined ? undefined : Number(holder);
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
