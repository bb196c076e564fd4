import { existsSync } from "node:fs";
import { isAbsolute } from "node:path";
import type { Status } from "../../control/protocol.js";
import { reasonOf } from "../../errors.js";
import { readOptions } from "../../options.js";
import { launchInfo } from "../../process/command.js";
import { readCapacity, type Capacity } from "./cgroup.js";
import { findTarget, type Target } from "./target.js";
import { readListeners, type ListenerFacts } from "./listener-facts.js";
import { readPidFile, readRequiredPath, type PidFileFacts, type RequiredPath } from "./paths.js";
import { ownDescriptorLimit, readProcess, type ProcessFacts } from "./process-facts.js";
import { readStart, type Start, type StartFacts } from "./start-facts.js";
import { systemdVersion, type UnitFacts } from "./systemctl.js";

/** Everything that the checks look at. What does not apply, or cannot be told, is undefined. */
export interface Facts {
  /** In words. */
  subject: string;
  /** Its version. */
  systemd: number | undefined;
  unit: UnitFacts | undefined;
  /** Words of its ExecReload that should be files, and are not. */
  missing: string[];
  process: ProcessFacts | undefined;
  /** Why the unit's process was not examined. */
  hidden: string | undefined;
  status: Status | undefined;
  /** Why there is no status. */
  silence: string | undefined;
  /** The options of the process, or their defaults. */
  settings: NonNullable<Status["settings"]>;
  pidFile: PidFileFacts | undefined;
  paths: RequiredPath[];
  listeners: ListenerFacts | undefined;
  capacity: Capacity;
  start: StartFacts | undefined;
  /** Why nothing could be started. */
  startProblem: string | undefined;
  /** The soft limit of descriptors that a process started from here has. */
  descriptorLimit: number | undefined;
}

/**
 * Gathers what is known of a unit, a process or this machine.
 *
 * @throws {HandoverError} `ERR_CONTROL` if there is no such thing, or it may not be looked at
 */
export async function gather(target: Target): Promise<Facts> {
  const { unit, pid, pidFile, status, silence } = await findTarget(target);
  const { process, hidden } = look(pid, unit);
  const { spawn: _, computesSpawn: __, ...defaults } = readOptions({}, "/");
  const settings = status?.settings ?? defaults;
  const file =
    pidFile ??
    (settings.pidFile === undefined || process === undefined ? undefined : readPidFile(settings.pidFile));
  // Whoever may not see a process may not see its files, either.
  const start =
    process?.hasOtherRoot === true || hidden !== undefined ? undefined : plan(target, unit, process, status);
  return {
    subject: describe(target, unit, process, status),
    systemd: await systemdVersion(),
    unit,
    missing: hidden === undefined ? missingWords(unit) : [],
    process,
    hidden,
    status,
    silence,
    settings,
    pidFile: process?.hasOtherRoot === true ? undefined : file,
    paths: requiredPaths(process, settings),
    listeners: process === undefined ? undefined : readListeners(process.pid),
    capacity: readCapacity(process?.pid ?? "self"),
    start: start !== undefined && "words" in start ? await readStart(start) : undefined,
    startProblem: start !== undefined && "problem" in start ? start.problem : undefined,
    descriptorLimit: ownDescriptorLimit(),
  };
}

function look(pid: number | undefined, unit: UnitFacts | undefined): Pick<Facts, "process" | "hidden"> {
  try {
    return { process: pid === undefined ? undefined : readProcess(pid), hidden: undefined };
  } catch (error) {
    // Of a unit there is more to examine.
    if (unit === undefined) throw error;
    return { process: undefined, hidden: reasonOf(error) };
  }
}

/** What would be started: by the process, or from its unit, or in this directory. */
function plan(
  target: Target,
  unit: UnitFacts | undefined,
  process: ProcessFacts | undefined,
  status: Status | undefined,
): Start | { problem: string } | undefined {
  const unitDirectory = unit?.properties.get("WorkingDirectory")?.replace(/^[!-]+/, "") || undefined;
  const rest = { user: process?.user, unitDirectory };
  if (status?.command !== undefined) {
    return "problem" in status.command ? status.command : { path: undefined, ...status.command, ...rest };
  }
  // It has a function that tells, and that is for an upgrade only.
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

function missingWords(unit: UnitFacts | undefined): string[] {
  const { path = "", words = [] } = unit?.reload ?? {};
  const end = words.indexOf("upgrade");
  const files = [path, ...words.slice(1, end < 0 ? 1 : end)].filter(isAbsolute);
  return files.filter((file) => !existsSync(file));
}

function requiredPaths(process: ProcessFacts | undefined, settings: Facts["settings"]): RequiredPath[] {
  if (process === undefined || process.hasOtherRoot) return [];
  return (["pidFile", "controlSocket"] as const).flatMap((option) => {
    const file = settings[option];
    return file === undefined || file.startsWith("\0") ? [] : [readRequiredPath(option, file, process.user)];
  });
}

function describe(
  { pidFile }: Target,
  unit: UnitFacts | undefined,
  process: ProcessFacts | undefined,
  status: Status | undefined,
): string {
  const words = [
    unit && `unit ${unit.name}`,
    pidFile && `PID file ${pidFile}`,
    process && `process ${process.pid}`,
    status && `generation ${status.generation}`,
  ];
  return words.filter(Boolean).join(", ") || `this machine, in ${launchInfo.logicalCwd}`;
}
