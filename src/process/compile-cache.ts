import { mkdirSync, realpathSync } from "node:fs";
import { HandoverError, reasonOf } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import { isMainThread } from "../platform/node-internals.js";
import { whyWritableByOthers } from "../platform/path.js";
import { channelVariable } from "./channel-variable.js";

/*
 * V8 keeps the compiled code of a program's modules in a directory, if NODE_COMPILE_CACHE names one when Node starts (Node 22.1
 * and later). The modules of the program are loaded before handover could switch it on, so only successors have it.
 */

/**
 * Marks a NODE_COMPILE_CACHE that handover has set, in the environment of a successor. Not HANDOVER_COMPILE_CACHE: that is the
 * option of a program under `handover/auto`, which would be taken out with it.
 */
const MARK = "HANDOVER_CACHE_ADDED";
const VARIABLE = "NODE_COMPILE_CACHE";

/** Both are taken out of the environment when this module loads: other programs that this one starts have no such cache. */
if (isMainThread() && process.env[MARK] !== undefined) {
  delete process.env[MARK];
  delete process.env[VARIABLE];
}

/** The functions of `node:module` that Node 20 does not have. */
function nodesCompileCache(): { enableCompileCache?: unknown; flushCompileCache?: () => void } {
  return builtins.module as object;
}

/** Warns in the first process if its Node has no compile cache. */
export function warnWithoutCompileCache(): void {
  if (nodesCompileCache().enableCompileCache !== undefined || channelVariable !== undefined) return;
  const message = `the option "compileCache" has no effect in Node ${process.version}: it needs Node 22.1`;
  process.emitWarning(message, { code: "HANDOVER_NO_COMPILE_CACHE" });
}

/**
 * Makes the directory, with mode 0700, if it does not exist. Returns its path without symlinks: somebody else may be able to
 * replace one of them after this.
 *
 * @throws {HandoverError} `ERR_OPTION` if it cannot be made, or if another user could put code into it
 */
export function prepareCompileCache(directory: string): string {
  const doing = `cannot use ${directory} for the option "compileCache"`;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const real = realpathSync(directory);
    const why = whyWritableByOthers(real);
    if (why === undefined) return real;
    throw new HandoverError("ERR_OPTION", `${doing}: ${why}`);
  } catch (error) {
    if (error instanceof HandoverError) throw error;
    throw new HandoverError("ERR_OPTION", `${doing}: ${reasonOf(error)}`, { cause: error });
  }
}

/**
 * Adds the directory to the environment of a successor, unless the program has a compile cache of its own. It is checked
 * again for each successor, which reads the code in it before its own check: the directory may be another one by then.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function withCompileCache(env: NodeJS.ProcessEnv, directory: string | undefined): NodeJS.ProcessEnv {
  if (directory === undefined || env[VARIABLE] !== undefined) return env;
  return { ...env, [VARIABLE]: prepareCompileCache(directory), [MARK]: "1" };
}

/** The environment of this process as it would be without {@link withCompileCache}. */
export function withoutCompileCache({ [MARK]: mark, ...env }: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  if (mark === undefined) return env;
  const { [VARIABLE]: _, ...rest } = env;
  return rest;
}

/** Writes the code that was compiled until now, for the next successor. Blocks for some ms the first time. */
export function writeCompileCache(): void {
  // Node 22.10 and later; before, the cache is written only at a normal exit.
  nodesCompileCache().flushCompileCache?.();
}
