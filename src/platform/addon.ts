import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { HandoverError, reasonOf } from "../errors.js";
import { findOwnPackage, OWN_DIRECTORY } from "./installation.js";
import { quoteForShell } from "./shell.js";

/**
 * Loads the addon, whose functions `Native` declares.
 *
 * @throws {HandoverError} `ERR_NOT_SUPPORTED`
 */
export function loadAddon(): object {
  const places = addonPlaces();
  const failures: unknown[] = [];
  for (const place of places) {
    // To throw an error for a file that is not there would take 1.5 MB of memory.
    if (!existsSync(place)) {
      failures.push(new Error(`No such file: ${place}`));
      continue;
    }
    try {
      // require() would take several times as long to find and load it, and not exist in every bundle.
      const module = { exports: {} };
      process.dlopen(module, place);
      return module.exports;
    } catch (error) {
      failures.push(error);
    }
  }
  throw new HandoverError(
    "ERR_NOT_SUPPORTED",
    `cannot load the addon for ${process.platform}-${process.arch} from ${places.join(" or ")}${whyUnreadable(failures)}; ` +
      `to build it, with python3, make and g++: ${buildCommand(findOwnPackage() ?? "node_modules/handover")}`,
    { cause: new AggregateError(failures) },
  );
}

/** Why a file that is there cannot be loaded; nothing if there is none. */
function whyUnreadable(failures: readonly unknown[]): string {
  const why = failures.map(reasonOf).find((reason) => !reason.includes("No such file"));
  return why === undefined ? "" : ` (${why})`;
}

/** Where the addon may be. A bundled program has it beside itself, or finds it in the package if that is installed. */
function addonPlaces(): string[] {
  const { HANDOVER_ADDON } = process.env;
  if (HANDOVER_ADDON) return [resolve(HANDOVER_ADDON)];
  const root = findOwnPackage();
  return [`${OWN_DIRECTORY}/${ADDON}`, ...(root === undefined ? [] : packagedAddons(root))];
}

/** Where the addon of a package is: built on this machine, or brought along. */
export function packagedAddons(root: string): string[] {
  return [`${root}/build/Release/${ADDON}`, `${root}/prebuilds/${process.platform}-${process.arch}/${ADDON}`];
}

export const ADDON = "handover.node";

/**
 * The addon among the files of a process, also a copy beside a bundle, or of a release that was removed.
 */
export const ADDON_FILE = /\/handover[^/\n]*\.node( \(deleted\))?$/m;

/**
 * The command that builds the addon of the package in `root`, for a shell. `npm rebuild` does nothing: the package has no
 * install script.
 */
export function buildCommand(root: string): string {
  return `npm run build:native --prefix ${quoteForShell(root)}`;
}
