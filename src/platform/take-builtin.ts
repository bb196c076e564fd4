/*
 * Not imported: scripts/build.js puts it into the package, whose files take Node's modules from it.
 */

const taken: Record<string, object> = {};

/** A module of Node. To ask Node anew for each file of the package would take a fifth of the time in which all of them run. */
export function takeBuiltin(name: string): object {
  return (taken[name] ??= process.getBuiltinModule(name as "node:fs"));
}
