import { closeAll } from "../platform/descriptors.js";
import { check, native } from "../platform/native.js";
import type { WorkerProcess } from "./worker-process.js";

/**
 * Makes an exchange link, on which one worker offers what it has to another one that serves.
 *
 * @param give gives the first one its end, which stays the caller's
 */
export function linkWorkers(from: WorkerProcess, to: WorkerProcess, give: (fd: number) => void): void {
  const ends = check(native().socketpair(), "make", "a pair of sockets");
  try {
    to.connect("predecessor", { ...from.peer, index: from.index }, ends[0]);
    give(ends[1]);
  } finally {
    closeAll(ends);
  }
}
