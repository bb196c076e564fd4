import { HandoverError, reasonOf } from "../errors.js";

/*
 * Not imported: scripts/later.js puts it into the package, where the modules that a start does not need are in a file of their
 * own.
 */

type Exports = Record<string | symbol, unknown>;

/** Runs that file, which the build names. It gets what it needs of the modules of the start, and so shares them. */
declare const runLater: () => Exports;

/**
 * All exports of these modules. The first one that is read loads the file, as the constructor of a successor needs it at once. The
 * others are then read without a proxy: for each of thousands of connections that would take as long as to pause it.
 */
export let later = new Proxy<Exports>({}, { get: (_, name) => (later = loaded ??= load())[name] });

/** Another file of the package may have read the proxy before: it must not load the modules a second time. */
let loaded: Exports | undefined;

function load(): Exports {
  try {
    return runLater();
  } catch (cause) {
    // The name of the file is of its text, so that it is never the one of another version.
    const isGone = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const why = isGone ? "the package was replaced while this process started" : reasonOf(cause);
    throw new HandoverError("ERR_NOT_SUPPORTED", `cannot load the rest of handover: ${why}`, { cause });
  }
}
