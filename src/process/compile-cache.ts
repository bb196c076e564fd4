import { mkdirSync } from "node:fs";
import { HandoverError, reasonOf } from "../errors.js";
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
const { enableCompileCache, flushCompileCache } = process.getBuiltinModule("node:module") as unknown as {
  enableCompileCache?: unknown;
  /** Node 22.10 and later; before, the cache is written only at a normal exit. */
  flushCompileCache?: () => void;
};

/**
 * Makes the directory, with mode 0700, if it does not exist. In a Node without a compile cache
 * the first process emits a warning.
 *
 * @throws {HandoverError} `ERR_OPTION` if it cannot be made, or if another user could put code into it
 */
export function prepareCompileCache(directory: string): void {
  if (enableCompileCache === undefined && channelVariable === undefined) {
    const message = `the option "compileCache" has no effect in Node ${process.version}: it needs Node 22.1`;
    process.emitWarning(message, { code: "HANDOVER_NO_COMPILE_CACHE" });
  }
  let why: string | undefined;
  let cause: unknown;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    why = whyWritableByOthers(directory);
  } catch (error) {
    [why, cause] = [reasonOf(error), error];
  }
  if (why === undefined) return;
  throw new HandoverError("ERR_OPTION", `cannot use ${directory} for the option "compileCache": ${why}`, {
    cause,
  });
}

/** Adds the directory to the environment of a successor, unless the program has a compile cache of its own. */
export function withCompileCache(env: NodeJS.ProcessEnv, directory: string | undefined): NodeJS.ProcessEnv {
  if (directory === undefined || env[VARIABLE] !== undefined) return env;
  return { ...env, [VARIABLE]: directory, [MARK]: "1" };
}

/** The environment of this process as it would be without {@link withCompileCache}. */
export function withoutCompileCache({ [MARK]: mark, ...env }: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  if (mark === undefined) return env;
  const { [VARIABLE]: _, ...rest } = env;
  return rest;
}

/** Writes the code that was compiled until now, for the next successor. Blocks for some ms the first time. */
export function writeCompileCache(): void {
  flushCompileCache?.();
}
