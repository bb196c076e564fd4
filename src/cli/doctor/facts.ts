import type { Status } from "../../control/protocol.js";
import { reasonOf } from "../../errors.js";
import type { EngineReport } from "../../exchange/hosts.js";
import { readOptions } from "../../options.js";
import { usableProcessors } from "../../platform/cgroup.js";
import { launchInfo } from "../../process/launch-info.js";
import { readCapacity, type Capacity } from "./cgroup.js";
import { readListeners, type ListenerFacts } from "./listener-facts.js";
import { readPidFile, readRequiredPaths, type PidFileFacts, type RequiredPath } from "./paths.js";
import { ownDescriptorLimit, readProcess, type ProcessFacts } from "./process-facts.js";
import { readStart, type StartFacts } from "./start-facts.js";
import { planStart } from "./start-plan.js";
import { missingReloadFiles, systemdVersion, type UnitFacts } from "./systemctl.js";
import { findTarget, type Target } from "./target.js";

/** Everything that the checks read. A fact that does not apply, or cannot be determined, is undefined. */
export interface Facts {
  /** The examined unit, process or machine, for people. */
  subject: string;
  /** The version of systemd. */
  systemd: number | undefined;
  unit: UnitFacts | undefined;
  /** Files that ExecReload= of the unit names and that do not exist. */
  missing: string[];
  process: ProcessFacts | undefined;
  /** Why the process of the unit was not examined. */
  hidden: string | undefined;
  status: Status | undefined;
  /** The workers of a supervisor that have a process; undefined of any other process. */
  workers: WorkerFacts[] | undefined;
  /** The processors that the process may use. */
  processors: number;
  /** Why there is no status. */
  silence: string | undefined;
  /** The options of the process, or their defaults. */
  settings: Required<NonNullable<Status["settings"]>>;
  pidFile: PidFileFacts | undefined;
  paths: RequiredPath[];
  listeners: ListenerFacts | undefined;
  capacity: Capacity;
  start: StartFacts | undefined;
  /** Why an upgrade would fail before it starts anything. */
  startProblem: string | undefined;
  /** How the process sees the engine of its hosts; undefined if it has none. */
  engine: EngineReport | undefined;
  /** The soft limit of descriptors for a process that is started from here. */
  descriptorLimit: number | undefined;
}

/** A worker of the examined supervisor. */
interface WorkerFacts {
  index: number;
  process: ProcessFacts;
  listeners: ListenerFacts;
}

/**
 * Gathers the facts about a unit, a process or this machine.
 *
 * @throws {HandoverError} `ERR_CONTROL` if the target does not exist, or this user may not examine it
 */
export async function gather(target: Target): Promise<Facts> {
  const { unit, pid, pidFile, status, silence, engine } = await findTarget(target);
  const { process, hidden } = examineProcess(pid, unit);
  const { spawn: _, computesSpawn: __, ...defaults } = readOptions({}, "/");
  const settings = { ...defaults, ...status?.settings };
  const file =
    pidFile ??
    (settings.pidFile === undefined || process === undefined ? undefined : readPidFile(settings.pidFile));
  // A user who may not examine a process may not read its files, either.
  const isReadable = process?.hasOtherRoot !== true && hidden === undefined;
  const start = isReadable ? planStart(target, unit, process, status) : undefined;
  return {
    subject: describe(target, unit, process, status),
    systemd: await systemdVersion(),
    unit,
    missing: hidden === undefined ? missingReloadFiles(unit) : [],
    process,
    hidden,
    status,
    silence,
    workers: hidden === undefined ? readWorkers(status) : undefined,
    processors: usableProcessors(),
    settings,
    pidFile: process?.hasOtherRoot === true ? undefined : file,
    paths: readRequiredPaths(process, settings, status?.workers !== undefined),
    listeners: process === undefined ? undefined : readListeners(process.pid),
    capacity: readCapacity(process?.pid ?? "self"),
    start: start !== undefined && "words" in start ? await readStart(start) : undefined,
    startProblem: start !== undefined && "problem" in start ? start.problem : undefined,
    engine,
    descriptorLimit: ownDescriptorLimit(),
  };
}

function readWorkers(status: Status | undefined): WorkerFacts[] | undefined {
  return status?.workers?.flatMap(({ index, pid }) => {
    if (pid === undefined) return [];
    try {
      return [{ index, process: readProcess(pid), listeners: readListeners(pid) }];
    } catch {
      // It has exited meanwhile.
      return [];
    }
  });
}

function examineProcess(
  pid: number | undefined,
  unit: UnitFacts | undefined,
): Pick<Facts, "process" | "hidden"> {
  try {
    return { process: pid === undefined ? undefined : readProcess(pid), hidden: undefined };
  } catch (error) {
    // Without its process a unit can still be examined.
    if (unit === undefined) throw error;
    return { process: undefined, hidden: reasonOf(error) };
  }
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
    process && `${status?.workers === undefined ? "" : "supervisor, "}process ${process.pid}`,
    status && `generation ${status.generation}`,
  ];
  return words.filter(Boolean).join(", ") || `this machine, in ${launchInfo.logicalCwd}`;
}
