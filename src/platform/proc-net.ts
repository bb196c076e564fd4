import { builtins } from "./builtins.js";

/* The tables of sockets in `/proc/net`, as proc(5) describes them. */

/** A socket in `tcp`, `tcp6`, `udp` or `udp6`. */
interface InetSocket {
  /** The local address as the kernel prints it; {@link formatHost} decodes it. */
  host: string;
  port: number;
  state: string;
  inode: string;
}

/** States of a socket that accepts connections or datagrams: TCP_LISTEN, and a UDP socket without a peer. */
export const OPEN_STATE = { tcp: "0A", udp: "07" } as const;

/** Reads the table `tcp`, `tcp6`, `udp` or `udp6`. A socket that no process holds is left out. */
export function parseInetSockets(table: string): InetSocket[] {
  return table.split("\n").flatMap((line) => {
    const [, local = "", , state, , , , , , inode] = line.trim().split(/\s+/);
    const [, host, port] = /^([\dA-F]{8,32}):([\dA-F]{4})$/.exec(local) ?? [];
    if (host === undefined || state === undefined || inode === undefined || inode === "0") return [];
    return [{ host, port: Number.parseInt(port!, 16), state, inode }];
  });
}

/** What waits at the listening sockets of `tcp` or `tcp6`. */
interface TcpQueues {
  /** Each listening socket, and the connections that wait to be accepted there. */
  listening: { inode: string; port: number; queued: number }[];
  /** Handshakes that have begun: the local port, and both ends. */
  handshakes: { port: number; ends: string }[];
}

/**
 * Reads whole lines of the table `tcp` or `tcp6`. A busy host has many thousands of them, so only the lines that matter are
 * taken apart.
 */
export function parseTcpQueues(lines: string): TcpQueues {
  const queues: TcpQueues = { listening: [], handshakes: [] };
  for (const [, local, remote, state, queued, inode] of lines.matchAll(QUEUE)) {
    const port = Number.parseInt(local!.slice(-4), 16);
    if (state === OPEN_STATE.tcp)
      queues.listening.push({ inode: inode!, port, queued: Number.parseInt(queued!, 16) });
    else queues.handshakes.push({ port, ends: `${local} ${remote}` });
  }
  return queues;
}

/** A socket in the state TCP_LISTEN or TCP_SYN_RECV: its ends, the state, the length of its queue, and the inode. */
const QUEUE = /^ *\d+: ([\dA-F]+:[\dA-F]{4}) (\S+) (0A|03) [\dA-F]+:([\dA-F]+) \S+ \S+ +\d+ +\d+ (\d+)/gm;

/** `127.0.0.1` or `[0:0:0:0:0:0:0:1]`. */
export function formatHost(host: string): string {
  // The kernel prints an address as 32-bit numbers in the byte order of the machine.
  const numbers = Buffer.from(host, "hex");
  const bytes = builtins.os.endianness() === "LE" ? numbers.swap32() : numbers;
  if (bytes.length === 4) return bytes.join(".");
  const groups = bytes.toString("hex").match(/.{4}/g) ?? [];
  return `[${groups.join(":")}]`;
}

/** A Unix socket that has a name. */
interface UnixSocket {
  /** A path, or `@abstract`. */
  path: string;
  inode: string;
  listens: boolean;
}

/** Reads the table `unix`. */
export function parseUnixSockets(table: string): UnixSocket[] {
  return table.split("\n").flatMap((line) => {
    const [, flags, inode, path] = /^\S+ \S+ \S+ (\S+) \S+ \S+ +(\d+) (.+)$/.exec(line) ?? [];
    if (inode === undefined || path === undefined) return [];
    return [{ path, inode, listens: (Number(`0x${flags}`) & ACCEPTS) !== 0 }];
  });
}

/** __SO_ACCEPTCON */
const ACCEPTS = 0x10000;
