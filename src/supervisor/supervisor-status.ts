import { readFileSync } from "node:fs";
import type { Status, WorkerStatus } from "../control/protocol.js";
import type { Env } from "../process/env.js";
import { VERSION } from "../util/version.js";
import type { Supervisor } from "./supervisor.js";
import type { WorkerRecord } from "./worker-pool.js";
import type { WorkerProcess } from "./worker-process.js";

/** The status of the service, and of each worker. */
export function supervisorStatus(supervisor: Supervisor, env: Env): Status {
  const { settings, generation, staged, pool } = supervisor;
  const workers = pool.records.map((record, index) => statusOf(record, index, pool.holder, env));
  return {
    state: supervisor.state,
    generation,
    pid: env.pid,
    uptime: Math.round(process.uptime()),
    version: VERSION,
    node: process.version,
    listeners: supervisor.listeners.all,
    connections: workers.reduce((sum, { connections = 0 }) => sum + connections, 0),
    memory: process.memoryUsage.rss(),
    predecessors: pool.retired.map(({ generation: of, pid, connections }) => ({
      generation: of,
      pid,
      connections,
    })),
    ...(staged === undefined ? {} : { staged }),
    upgrades: supervisor.upgrades,
    name: settings.name,
    workers,
  };
}

function statusOf(
  { current, restarts, lastExit, hasFailed }: Readonly<WorkerRecord>,
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
          ...usageOf(current.pid),
        }),
    ...(holder === index ? { roles: true } : {}),
  };
}

function stateOf({ isAccepting }: WorkerProcess): WorkerStatus["state"] {
  return isAccepting ? "ready" : "starting";
}

/** Resident memory in bytes, and the processor time so far in ms; nothing without /proc. */
function usageOf(pid: number): { memory?: number; cpu?: number } {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { memory: Number(fields[21]) * PAGE, cpu: ticks * (1_000 / TICKS) };
  } catch {
    return {};
  }
}

/** Bytes of a page, and clock ticks of a second, as the kernel reports them to programs on every system that Node supports. */
const PAGE = 4_096;
const TICKS = 100;
