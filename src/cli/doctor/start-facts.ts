import { existsSync, realpathSync, statSync } from "node:fs";
import { basename, resolve } from "node:path";
import { findOnPath, isExecutable } from "../../platform/path.js";
import { scriptOf } from "../../process/node-words.js";
import { packageOf, readNode, type NodeFacts } from "./node-probe.js";
import type { StartPlan } from "./start-plan.js";

/** The command of the next generation, looked up in the present file system. */
export interface StartFacts {
  words: string[];
  cwd: string;
  hasDirectory: boolean;
  /** The program; undefined if the first word is not found. */
  file: string | undefined;
  /** undefined if the words name none */
  script: { path: string; exists: boolean } | undefined;
  /** undefined if the program is not Node itself */
  node: NodeFacts | undefined;
  /** A symlink that the unit names as the directory, but that the process would not start in. */
  lostLink: string | undefined;
}

/** Looks up the command, and runs its Node to learn the version. */
export async function readStart({ words, cwd, path, user, unitDirectory }: StartPlan): Promise<StartFacts> {
  const [word = "", ...args] = words;
  const file = findProgram(word, cwd, path);
  const name = scriptOf(args);
  const script =
    name === undefined ? undefined : { path: resolve(cwd, name), exists: isModule(resolve(cwd, name)) };
  const isNode = file !== undefined && /^node(js)?[\d.]*$/.test(basename(file));
  return {
    words,
    cwd,
    hasDirectory: statSync(cwd, { throwIfNoEntry: false })?.isDirectory() === true,
    file,
    script: isNode ? script : undefined,
    node: isNode ? await readNode(file, packageOf(script?.path, cwd), script?.path, user) : undefined,
    lostLink:
      unitDirectory !== undefined && unitDirectory !== cwd && isLinked(unitDirectory)
        ? unitDirectory
        : undefined,
  };
}

/** As execvp(3) looks a program up. */
function findProgram(word: string, cwd: string, path = "/usr/local/bin:/usr/bin:/bin"): string | undefined {
  if (!word.includes("/")) return findOnPath(word, path, cwd)[0];
  const file = resolve(cwd, word);
  return isExecutable(file) ? file : undefined;
}

/** Whether Node finds a main module at a path. */
function isModule(path: string): boolean {
  return ["", ".js", ".json", ".node"].some((end) => existsSync(path + end));
}

function isLinked(path: string): boolean {
  try {
    return realpathSync(path) !== path;
  } catch {
    return false;
  }
}
