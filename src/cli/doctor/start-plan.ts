import { isAbsolute } from "node:path";
import type { Status } from "../../control/protocol.js";
import { launchInfo } from "../../process/launch-info.js";
import type { ProcessFacts } from "./process-facts.js";
import type { UnitFacts } from "./systemctl.js";
import type { Target } from "./target.js";

/** The command that would start the next generation. */
export interface StartPlan {
  words: string[];
  cwd: string;
  path: string | undefined;
  /** The user of the service. The doctor runs the service's files with no more rights than this user has. */
  user: { uid: number; gids: number[] } | undefined;
  /** The working directory as the unit names it. */
  unitDirectory: string | undefined;
}

/**
 * Decides what would be started: by the process, from its unit, or in the working directory. Returns undefined if that
 * cannot be known, and the problem if an upgrade would fail before it starts anything.
 */
export function planStart(
  target: Target,
  unit: UnitFacts | undefined,
  process: ProcessFacts | undefined,
  status: Status | undefined,
): StartPlan | { problem: string } | undefined {
  const unitDirectory = unit?.properties.get("WorkingDirectory")?.replace(/^[!-]+/, "") || undefined;
  const rest = { user: process?.user, unitDirectory };
  if (status?.command !== undefined) {
    return "problem" in status.command ? status.command : { path: undefined, ...status.command, ...rest };
  }
  // Its option `spawn` is a function, which is called for an upgrade only.
  if (status?.settings !== undefined) return undefined;
  if (process !== undefined) {
    const cwd = process.cwd.replace(/ \(deleted\)$/, "");
    const [pwd, path] = [process.env["PWD"], process.env["PATH"]];
    return { words: process.words, cwd: pwd !== undefined && isAbsolute(pwd) ? pwd : cwd, path, ...rest };
  }
  if (unit?.start !== undefined) {
    const { path: program, words } = unit.start;
    return { words: [program, ...words.slice(1)], cwd: unitDirectory ?? "/", path: undefined, ...rest };
  }
  if (target.pidFile !== undefined) return undefined;
  return { words: ["node"], cwd: launchInfo.logicalCwd, path: globalThis.process.env["PATH"], ...rest };
}
