import { statSync } from "node:fs";
import { dirname } from "node:path";
import { isAlive, readPid } from "../../control/discover.js";
import { reasonOf } from "../../errors.js";

/** A file that the process has to make anew, and whether it can. */
export interface RequiredPath {
  option: "pidFile" | "controlSocket";
  file: string;
  /** undefined: it can. */
  problem: string | undefined;
}

/** What a PID file says. */
export interface PidFileFacts {
  file: string;
  pid: number | undefined;
  isAlive: boolean;
  /** Why nothing can be read from it. */
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

/** Both files are replaced by others beside them: that takes a directory in which the user can write. */
export function readRequiredPath(
  option: RequiredPath["option"],
  file: string,
  user: { uid: number; gids: number[] },
): RequiredPath {
  const directory = dirname(file);
  try {
    const { uid, gid, mode } = statSync(directory);
    const shift = uid === user.uid ? 6 : user.gids.includes(gid) ? 3 : 0;
    const isWritable = user.uid === 0 || ((mode >> shift) & 0o3) === 0o3;
    const why = `${directory} is uid ${uid}'s with mode ${(mode & 0o7777).toString(8)}, and the process is uid ${user.uid}'s`;
    return { option, file, problem: isWritable ? undefined : why };
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    return { option, file, problem: isMissing ? `${directory} does not exist` : reasonOf(error) };
  }
}
