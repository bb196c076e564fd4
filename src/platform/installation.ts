import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { builtins } from "./builtins.js";

/**
 * The directory of this code: a directory of the package, or that of a program which the package was bundled into. Bundlers
 * leave `import.meta` empty in CommonJS.
 */
export const OWN_DIRECTORY = dirname(
  typeof __filename === "string" ? __filename : builtins.url.fileURLToPath(import.meta.url),
);

/** The package `handover` that a module in this directory imports; undefined if none is installed for it. */
export function findPackage(directory: string): string | undefined {
  const found = [join(directory, "node_modules", "handover"), directory].find(isHandover);
  const parent = dirname(directory);
  return found ?? (parent === directory ? undefined : findPackage(parent));
}

function isHandover(root: string): boolean {
  const text = readIfAny(join(root, "package.json"));
  // To parse all of it takes longer than the rest of the search, and each start does it.
  return text !== undefined && (/^\{\s*"name":\s*"handover",/.test(text) || parse(text)?.name === "handover");
}

/** The root of this package. In a program's bundle: of the installed package. Undefined if none is installed. */
export function findOwnPackage(): string | undefined {
  // Where its files are is known: the search takes longer than the loading of the addon.
  const place = PLACES.find((one) => OWN_DIRECTORY.endsWith(one));
  const root = place && OWN_DIRECTORY.slice(0, -place.length);
  return root && existsSync(`${root}/native/addon.cc`) ? root : findPackage(OWN_DIRECTORY);
}

/** Directories of the package with this code. */
const PLACES = ["/dist/bundle", "/dist/bundle/cli", "/dist/platform"];

/** The package that has the command `handover` which runs here. */
export function ownPackage(): string {
  return findOwnPackage()!;
}

interface Manifest {
  name?: string;
  type?: string;
  engines?: { node?: string };
}

/** The `package.json` of a directory. Undefined if the file is missing, or is not valid. */
export function readManifest(root: string): Manifest | undefined {
  const text = readIfAny(join(root, "package.json"));
  return text === undefined ? undefined : parse(text);
}

function readIfAny(file: string): string | undefined {
  // An exception for each directory without one would cost more than the rest of the search.
  if (!existsSync(file)) return undefined;
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

function parse(text: string): Manifest | undefined {
  try {
    return JSON.parse(text) as Manifest;
  } catch {
    return undefined;
  }
}
