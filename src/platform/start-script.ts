import { existsSync, readFileSync } from "node:fs";
import { Script } from "node:vm";

/*
 * Not imported: scripts/build.js puts it into the package, where it loads what a start needs.
 */

/** Runs the script of that name. Its value is a function, which is called with the path of the script and with `given`. */
type Run = (name: string, given: object) => object;

/**
 * Runs scripts of one directory. To compile what a start needs would take V8 as long as all the rest of it with handover. So
 * the package brings the compiled code, for some versions of Node; with another one V8 compiles the text.
 */
export function scriptsIn(directory: string): Run {
  return (name, given) => {
    const path = `${directory}/${name}`;
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
export function readScript(path: string, filename: string, cachedData?: Uint8Array): Script {
  return new Script(readFileSync(path, "utf8"), { filename, ...(cachedData && { cachedData }) });
}

/** Where the package has the compiled code of a script for this version of Node. */
export function compiledFile(path: string): string {
  return `${path}.${process.version}-${process.platform}-${process.arch}`;
}

/**
 * V8 knows the code of another version, but not that of one which was built in another way. So the settings of its build stand before
 * it, in a multiple of 8 bytes: else V8 would copy the code.
 */
export function buildSettings(): string {
  const { target_defaults, variables } = process.config;
  const names = Object.keys(variables).filter((name) => name.startsWith("v8_"));
  const settings = `${target_defaults.default_configuration} ${JSON.stringify(variables, names)}`;
  return settings.padEnd(Math.ceil(settings.length / 8) * 8);
}

/** The compiled code of a script; undefined if there is none for this Node. */
export function readCompiled(path: string): Uint8Array | undefined {
  const file = compiledFile(path);
  if (!existsSync(file)) return undefined;
  const content = readFileSync(file);
  const settings = buildSettings();
  const { length } = settings;
  if (content.toString(undefined, 0, length) !== settings) return undefined;
  return new Uint8Array(content.buffer, content.byteOffset + length, content.length - length);
}
