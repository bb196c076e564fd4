import { statSync } from "node:fs";
import { dirname } from "node:path";
import { isAlive, readPid } from "../../control/discover.js";
import { reasonOf } from "../../errors.js";
import type { Settings } from "../../options.js";
import type { ProcessFacts } from "./process-facts.js";

/** A file that the next generation has to replace. */
export interface RequiredPath {
  option: "pidFile" | "controlSocket";
  file: string;
  /** Why the process cannot replace it. */
  problem: string | undefined;
  /** Why other users can put a file of theirs in its place. */
  exposure?: string | undefined;
}

/** The content of a PID file. */
export interface PidFileFacts {
  file: string;
  pid: number | undefined;
  isAlive: boolean;
  /** Why it could not be read. */
  problem: string | undefined;
}

export function readPidFile(file: string): PidFileFacts {
  try {
    const pid = readPid(file);
    return { file, pid, isAlive: isAlive(pid), problem: undefined };
  } catch (error) {
    return { file, pid: undefined, isAlive: false, problem: reasonOf(error) };
  }
}

/**
 * The files that the next generation of a process has to create.
 *
 * @param isKept whether it need not, because the process stays
 */
export function readRequiredPaths(
  process: ProcessFacts | undefined,
  settings: Pick<Settings, "pidFile" | "controlSocket">,
  isKept = false,
): RequiredPath[] {
  if (process === undefined || process.hasOtherRoot) return [];
  return (["pidFile", "controlSocket"] as const).flatMap((option) => {
    const file = settings[option];
    // An automatic control socket is not required.
    return typeof file === "string" && !file.startsWith("\0")
      ? [
          {
            option,
            file,
            problem: isKept ? undefined : whyNotReplaceable(file, process.user),
            exposure: whyExposed(file),
          },
        ]
      : [];
  });
}

/** A new file is renamed over the old one, which takes a directory in which the user can write. */
function whyNotReplaceable(file: string, user: ProcessFacts["user"]): string | undefined {
  const directory = dirname(file);
  try {
    const { uid, gid, mode } = statSync(directory);
    const shift = uid === user.uid ? 6 : user.gids.includes(gid) ? 3 : 0;
    if (user.uid === 0 || ((mode >> shift) & 0o3) === 0o3) return undefined;
    return `${directory} belongs to uid ${uid}, has mode ${(mode & 0o7777).toString(8)}, and the process runs as uid ${user.uid}`;
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    return isMissing ? `${directory} does not exist` : reasonOf(error);
  }
}

/** In a directory with the sticky bit, such as /tmp, others cannot replace the file, but they can create it first. */
function whyExposed(file: string): string | undefined {
  const directory = dirname(file);
  const { mode = 0 } = statSync(directory, { throwIfNoEntry: false }) ?? {};
  if ((mode & 0o002) === 0) return undefined;
  return `${directory} has mode ${(mode & 0o7777).toString(8)}`;
}
