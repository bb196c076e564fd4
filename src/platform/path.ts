import { accessSync, constants, lstatSync, realpathSync, statSync } from "node:fs";
import { delimiter, dirname, isAbsolute, join, resolve } from "node:path";

/** Whether two paths lead to the same file or directory; false if one of them leads to none. */
export function isSameFile(one: string, other: string): boolean {
  try {
    const [a, b] = [statSync(one), statSync(other)];
    return a.dev === b.dev && a.ino === b.ino;
  } catch {
    return false;
  }
}

/** Whether a path leads to a file that this user may run. */
export function isExecutable(file: string): boolean {
  try {
    // Most directories of PATH do not have it, and exceptions take memory.
    if (statSync(file, { throwIfNoEntry: false })?.isFile() !== true) return false;
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Why another user than this one and root can write to a directory, or replace it or a directory above it. Undefined if none
 * can.
 *
 * @throws {Error} of the system, if there is no such directory
 */
export function whyWritableByOthers(directory: string): string | undefined {
  const real = realpathSync(directory);
  for (let path = real; ; path = dirname(path)) {
    const { uid, mode } = lstatSync(path);
    if (uid !== process.geteuid?.() && (uid !== 0 || path === real)) return `${path} belongs to uid ${uid}`;
    // In a directory with the sticky bit, such as /tmp, others cannot replace what is not theirs.
    const isOpen = (mode & WRITABLE_BY_OTHERS) !== 0 && (path === real || (mode & STICKY) === 0);
    if (isOpen) return `${path} has mode ${(mode & 0o7777).toString(8)}, so others can write to it`;
    if (path === dirname(path)) return undefined;
  }
}

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/**
 * The programs called `name` in the directories of `PATH`, in its order.
 *
 * @param cwd where relative directories of `PATH` begin; without it they are skipped
 */
export function findOnPath(name: string, path: string, cwd?: string): string[] {
  const directories = path.split(delimiter);
  const absolute =
    cwd === undefined ? directories.filter(isAbsolute) : directories.map((one) => resolve(cwd, one));
  return absolute.map((one) => join(one, name)).filter(isExecutable);
}
