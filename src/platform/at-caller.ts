import { HandoverError } from "../errors.js";

/*
 * Of an error that is not caught Node prints the line of code of the first place of its stack, or the one that has thrown it: a
 * minified line of the package. So the stack of an error begins where the program has called a public function.
 */

/** A function, as `Error.captureStackTrace()` takes it. */
type Called = Parameters<typeof Error.captureStackTrace>[1];

/** Runs what the public function `owner[name]` does. */
export function atCaller<N extends string, T>(owner: Record<N, Called>, name: N, run: () => T): T {
  try {
    return run();
  } catch (error) {
    return throwAtCaller(error, owner[name]);
  }
}

/** The same of a public function that returns this promise. */
export async function asyncAtCaller<N extends string, T>(
  owner: Record<N, Called>,
  name: N,
  run: () => T | PromiseLike<T>,
): Promise<T> {
  let hasReturned = false;
  try {
    const result = run();
    hasReturned = true;
    return await result;
  } catch (error) {
    return throwAtCaller(error, hasReturned ? asyncAtCaller : owner[name]);
  }
}

/** Throws an error with a stack that begins above a function. */
export function throwAtCaller(error: unknown, above: Called): never {
  // With source maps the places of handover are readable, too.
  if (error instanceof HandoverError && !process.sourceMapsEnabled && beginsInPackage(error)) {
    const here = { stack: "" };
    Error.captureStackTrace(here, above);
    // Of a call that was not awaited the place is not known, once the call has waited.
    if (/^ +at /m.test(here.stack)) Error.captureStackTrace(error, above);
  }
  // Node prints no line that has these words.
  if (error !== "node-do-not-add-exception-line") throw error;
  return error as never;
}

/** An error of a public function that a callback of the program has called shows the place in the callback. */
function beginsInPackage(error: Error): boolean {
  return firstFolders(error) === firstFolders(new Error());
}

/** Of the first file of a stack. Two folders, as what is loaded with compiled code is named by a short path. */
function firstFolders({ stack = "" }: Error): string | undefined {
  return /^ +at .*?([^/]+\/[^/]+)\/[^/]+$/m.exec(stack)?.[1];
}
