import { fstatSync, readlinkSync } from "node:fs";
import { HandoverError } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import type { ExitStatus } from "../platform/child-process.js";
import { describeUncaught, placeOf, type UncaughtError } from "./uncaught-error.js";

/**
 * The error of a successor that has exited.
 *
 * @param status undefined if it is not known, as behind a wrapper
 * @param uncaught the last error that it has reported
 */
export function exitError(
  pid: number,
  status: ExitStatus | undefined,
  uncaught: UncaughtError | undefined,
): HandoverError {
  const message = `the successor (pid ${pid}) ${describeExit(status)}${whyExited(pid, status, uncaught)}`;
  const cause = status === undefined ? undefined : { code: status.code, signal: status.signal };
  return new HandoverError("ERR_CHILD_EXITED", message, { cause });
}

/** The last uncaught error of a successor, for the end of a message; else nothing. */
export function lastUncaught(uncaught: UncaughtError | undefined): string {
  return uncaught === undefined ? "" : `; its last uncaught error: ${describeUncaught(uncaught)}`;
}

function describeExit(status: ExitStatus | undefined): string {
  if (status?.signal) return `was killed by ${status.signal}`;
  return typeof status?.code === "number" ? `exited with code ${status.code}` : "exited";
}

/** An error that it caught itself, or that names no file, is explained on its stderr. */
function whyExited(pid: number, status: ExitStatus | undefined, uncaught: UncaughtError | undefined): string {
  const isSilent = status?.code === 0 || status?.signal === "SIGKILL";
  const place = isSilent || (uncaught && placeOf(uncaught)) ? undefined : describeStderr(pid);
  return lastUncaught(uncaught) + (place === undefined ? "" : `; its stderr is ${place}`);
}

/** Where a process prints its errors that has inherited the stderr of this one. Undefined where there is no `/proc`. */
function describeStderr(pid: number): string | undefined {
  try {
    const target = readlinkSync("/proc/self/fd/2");
    if (target === "/dev/null") return target;
    if (builtins.tty.isatty(2)) return `the terminal ${target}`;
    const { dev, ino } = fstatSync(2);
    if (process.env["JOURNAL_STREAM"] === `${dev}:${ino}`) return `the journal (journalctl _PID=${pid})`;
    return target.startsWith("/") ? `the file ${target}` : "a pipe";
  } catch {
    return undefined;
  }
}
