import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Script } from "node:vm";

/*
 * Not imported: scripts/build.js puts it into the package, where it loads what a start needs.
 */

/** Runs the script of that name. Its value is a function, which is called with the path of the script and with `given`. */
type Run = (name: string, given: object) => object;

/** {@link scriptsIn} the directory of a file, by its URL. */
export function scriptsBeside(url: string): Run {
  return scriptsIn(dirname(fileURLToPath(url)));
}

/**
 * Runs scripts of one directory. To compile what a start needs would take V8 as long as all the rest of it with handover. So
 * the package brings the compiled code, for some versions of Node; with another one V8 compiles the text.
 */
export function scriptsIn(directory: string): Run {
  return (name, given) => {
    const path = join(directory, name);
    // Node reads the source maps of modules only.
    const script = process.sourceMapsEnabled
      ? process.getBuiltinModule("node:module").createRequire(path)(path)
      : readScript(path, path, readCompiled(path)).runInThisContext();
    return (script as (path: string, given: object) => object)(path, given);
  };
}

/**
 * @param filename for stack traces
 * @param cachedData compiled code; V8 rejects that of another version of V8, or for other flags, and compiles the text
 */
export function readScript(path: string, filename: string, cachedData?: Buffer): Script {
  return new Script(readFileSync(path, "utf8"), { filename, ...(cachedData && { cachedData }) });
}

/** Where the package has the compiled code of a script for this version of Node. */
export function compiledFile(path: string): string {
  return `${path}.${process.version}-${process.platform}-${process.arch}`;
}

/** V8 knows the code of another version, but not that of a Node which was built in another way. So this stands before it. */
export function buildSettings(): Buffer {
  return Buffer.from(JSON.stringify(process.config.variables));
}

/** The compiled code of a script; undefined if there is none for this Node. */
export function readCompiled(path: string): Buffer | undefined {
  const file = compiledFile(path);
  if (!existsSync(file)) return undefined;
  const content = readFileSync(file);
  const settings = buildSettings();
  const { length } = settings;
  return settings.equals(content.subarray(0, length)) ? content.subarray(length) : undefined;
}
