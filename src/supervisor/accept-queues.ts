import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { parseTcpQueues } from "../platform/proc-net.js";
import type { Clock } from "../util/clock.js";

/**
 * Waits until listening sockets to which no connections are steered any longer can be closed: no connection waits in their
 * queues, and each handshake that was half-open at the first look has ended, as it may be one of theirs. At most
 * {@link LONGEST} ms: a client may never end its handshake.
 *
 * @param isOver asked at each look; ends the wait
 */
export async function untilEmpty(fds: readonly number[], clock: Clock, isOver: () => boolean): Promise<void> {
  const inodes = new Set(fds.map((fd) => String(fstatSync(fd, { bigint: true }).ino)));
  const end = clock.now() + LONGEST;
  let doubtful: ReadonlySet<string> | undefined;
  while (fds.length > 0 && !isOver() && clock.now() < end) {
    const { isEmpty, halfOpen } = look(inodes);
    doubtful = doubtful === undefined ? halfOpen : new Set([...doubtful].filter((one) => halfOpen.has(one)));
    if (isEmpty && doubtful.size === 0) return;
    await new Promise<void>((resolve) => clock.after(LOOK_EVERY, resolve));
  }
}

/** A socket that is not found may have connections. */
function look(inodes: ReadonlySet<string>): { isEmpty: boolean; halfOpen: ReadonlySet<string> } {
  const empty = new Set<string>();
  const ports = new Set<number>();
  const halfOpen = new Set<string>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    // The table begins with the sockets that listen.
    for (const lines of linesOf(table)) {
      const { listening, handshakes } = parseTcpQueues(lines);
      for (const { inode, port, queued } of listening.filter((one) => inodes.has(one.inode))) {
        ports.add(port);
        if (queued === 0) empty.add(inode);
      }
      for (const { port, ends } of handshakes) if (ports.has(port)) halfOpen.add(ends);
    }
  }
  return { isEmpty: empty.size === inodes.size, halfOpen };
}

/** The whole lines of a file, some at a time: to read it at once would take seconds where it is long, as it has no size. */
function* linesOf(path: string): Generator<string> {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return;
  }
  try {
    const buffer = Buffer.allocUnsafe(64 * 1024);
    let rest = "";
    for (let size = readSync(fd, buffer); size > 0; size = readSync(fd, buffer)) {
      const text = rest + buffer.toString("latin1", 0, size);
      const end = text.lastIndexOf("\n") + 1;
      rest = text.slice(end);
      yield text.slice(0, end);
    }
  } finally {
    closeSync(fd);
  }
}

/** ms */
const LONGEST = 5_000;
const LOOK_EVERY = 50;
