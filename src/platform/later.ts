import { HandoverError, reasonOf } from "../errors.js";
import { requireEsModule } from "./node-internals.js";

/*
 * Not imported: scripts/later.js puts it into the package, where the modules that a start does not need are in a file of their
 * own.
 */

type Exports = Record<string | symbol, unknown>;

/** All exports of these modules. The first one that is read loads the file, as the constructor of a successor needs it at once. */
export const later = new Proxy<Exports>({}, { get: (_, name) => (loaded ??= load())[name] });

let loaded: Exports | undefined;

/**
 * Every Node that is supported can require ES modules. To have the function `require` takes a millisecond. That of a loader, such
 * as tsx, brings modules of its own, or fails; Node's own does not.
 */
function load(): Exports {
  const { createRequire } = process.getBuiltinModule("node:module");
  const require = createRequire(import.meta.url);
  let why = "the file is of another version, as the package was replaced while this process started";
  let cause: unknown;
  for (const one of [require, (path: string) => requireEsModule(require.resolve(path))]) {
    try {
      const found = one("./later.js") as Exports | undefined;
      // It shares the modules of the start with this process, or it has brought its own.
      if (found?.["HandoverError"] === HandoverError) return found;
    } catch (error) {
      [why, cause] = [reasonOf(error), error];
    }
  }
  throw new HandoverError("ERR_NOT_SUPPORTED", `cannot load the rest of handover: ${why}`, { cause });
}
