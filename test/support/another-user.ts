import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { temporaryDirectory } from "./service.js";

/** The user `nobody`, to whom root can change. */
export const NOBODY = 65_534;

/** What a test needs that runs programs as {@link NOBODY}, who may not enter the directory of this clone. */
export interface ForAnotherUser {
  /** The directory of the package, with its fixtures. */
  root: string;
  /** The program `node`. */
  node: string;
  /** The words that start a fixture. */
  fixture: (name: string, settings?: object) => string[];
}

/**
 * Copies the package, and `node` if that user cannot run it, to a directory that the test removes. Its path is one that a
 * command must quote.
 */
export function forAnotherUser(): ForAnotherUser {
  const directory = temporaryDirectory();
  chmodSync(directory, 0o755);
  const root = join(directory, "a blank and ü");
  for (const part of [
    "package.json",
    "bin",
    "dist",
    "build/Release/handover.node",
    "node_modules/commander",
  ]) {
    cpSync(resolve(part), join(root, part), { recursive: true });
  }
  cpSync(resolve("test/fixtures"), join(root, "test/fixtures"), { recursive: true });
  const node = nodeOf(directory);
  const fixture = (name: string, settings: object = {}): string[] => [
    node,
    join(root, "test/fixtures", name),
    JSON.stringify(settings),
  ];
  return { root, node, fixture };
}

function nodeOf(directory: string): string {
  const options = { uid: NOBODY, gid: NOBODY, cwd: "/" };
  if (spawnSync(process.execPath, ["--version"], options).status === 0) return process.execPath;
  const copy = join(directory, "bin", "node");
  mkdirSync(join(directory, "bin"));
  copyFileSync(process.execPath, copy);
  return copy;
}
