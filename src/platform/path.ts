import { accessSync, constants, statSync } from "node:fs";
import { delimiter, isAbsolute, join, resolve } from "node:path";

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
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

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
