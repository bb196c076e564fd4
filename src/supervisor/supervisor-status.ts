import { readFileSync } from "node:fs";
import type { Status, WorkerStatus } from "../control/protocol.js";
import type { UpgradeRecord } from "../events.js";
import { readStat } from "../platform/proc.js";
import { nextCommand } from "../process/command.js";
import { launchInfo } from "../process/launch-info.js";
import type { Env } from "../process/env.js";
import { VERSION } from "../util/version.js";
import type { ServiceListeners } from "./service-listeners.js";
import type { ServiceTotals } from "./service-totals.js";
import type { SupervisorSettings } from "./settings.js";
import type { WorkerPool } from "./worker-pool.js";
import type { WorkerProcess } from "./worker-process.js";
import type { WorkerRecord } from "./worker-record.js";

/** The supervisor, as its status shows it. */
interface ShownSupervisor extends Pick<Status, "state" | "generation" | "connections"> {
  readonly settings: SupervisorSettings;
  readonly listeners: ServiceListeners;
  readonly pool: WorkerPool;
  readonly totals: ServiceTotals;
  readonly upgrades: readonly UpgradeRecord[];
  readonly staged: Status["staged"];
  /** How the last upgrade of the supervisor itself ended. */
  readonly lastReplacement: Status["replacement"];
}

/** The status of the service, and of each worker. */
export function supervisorStatus(supervisor: ShownSupervisor, env: Env): Status {
  const { settings, generation, staged, pool } = supervisor;
  const serving = pool.records.map(({ current }, index) => pool.acceptor(index) ?? current);
  const workers = pool.records.map((record, index) =>
    statusOf(record, serving[index], index, pool.roles.holder, env),
  );
  // On probation the workers that were replaced still have their records.
  const replaced = pool.living().filter((worker) => !serving.includes(worker));
  return {
    state: supervisor.state,
    generation,
    pid: env.pid,
    uptime: Math.round(process.uptime()),
    version: VERSION,
    node: process.version,
    listeners: supervisor.listeners.all,
    connections: supervisor.connections,
    memory: process.memoryUsage.rss(),
    predecessors: replaced.map((worker) => ({
      generation: worker.generation,
      pid: worker.pid,
      connections: worker.connections,
    })),
    ...(staged === undefined ? {} : { staged }),
    upgrades: supervisor.upgrades,
    ...(supervisor.lastReplacement === undefined ? {} : { replacement: supervisor.lastReplacement }),
    settings: sharedSettings(supervisor),
    name: settings.name,
    workers,
    totals: supervisor.totals.all,
    command: nextCommand(launchInfo, settings.command),
  };
}

/** The settings that `new Upgrader()` has as well. */
function sharedSettings({ settings }: ShownSupervisor): NonNullable<Status["settings"]> {
  const { pidFile, controlSocket, signals, probation, readyTimeout, stopTimeout } = settings;
  const drain = stopTimeout === undefined ? {} : { drainTimeout: stopTimeout, exitTimeout: 0 };
  return { pidFile, controlSocket, signals, probation, upgradeTimeout: readyTimeout, ...drain };
}

function statusOf(
  { restarts, lastExit, hasFailed }: Readonly<WorkerRecord>,
  current: WorkerProcess | undefined,
  index: number,
  holder: number | undefined,
  { clock }: Env,
): WorkerStatus {
  const state = hasFailed ? "failed" : current === undefined ? "waiting" : stateOf(current);
  return {
    index,
    state,
    restarts,
    ...(lastExit === undefined ? {} : { lastExit }),
    ...(current === undefined
      ? {}
      : {
          pid: current.pid,
          generation: current.generation,
          uptime: Math.round((clock.now() - current.started) / 1_000),
          connections: current.connections,
          silence: Math.round(current.silence),
          ...(current.hosts === undefined ? {} : { hosts: current.hosts }),
          ...usageOf(current.pid),
        }),
    ...(holder === index ? { roles: true } : {}),
  };
}

function stateOf({ isAccepting, isCommitted }: WorkerProcess): WorkerStatus["state"] {
  if (isAccepting) return "ready";
  return isCommitted ? "draining" : "starting";
}

/** Resident memory in bytes, and the processor time so far in ms; nothing without /proc. */
function usageOf(pid: number): { memory?: number; cpu?: number } {
  try {
    const [, resident = "0"] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    const fields = readStat(pid);
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { memory: Number(resident) * 1_024, cpu: ticks * TICK };
  } catch {
    return {};
  }
}

/** ms. The kernel shows times in units of its own on every architecture of Node alike: USER_HZ is 100. */
const TICK = 10;
