import type { Status, WorkerStatus } from "../control/protocol.js";
import { sumOf } from "../metrics/totals.js";
import { count, duration, mebibytes, table } from "./output.js";

/** The workers of a supervisor as a table. */
export function describeWorkers(workers: readonly WorkerStatus[]): string[] {
  return table(HEADER, workers.map(row));
}

const HEADER = [
  "index",
  "pid",
  "generation",
  "state",
  "connections",
  "memory",
  "CPU",
  "restarts",
  "last exit",
  "roles",
];

function row(worker: WorkerStatus): string[] {
  const { index, pid, generation, connections, memory, cpu, restarts, lastExit, roles } = worker;
  return [
    String(index),
    String(pid ?? ""),
    String(generation ?? ""),
    describeState(worker),
    String(connections ?? ""),
    memory === undefined ? "" : mebibytes(memory),
    cpu === undefined ? "" : duration(cpu),
    String(restarts),
    lastExit ?? "",
    roles === undefined ? "" : "held",
  ];
}

/** A heartbeat comes four times a second. */
function describeState({ state, silence = 0 }: WorkerStatus): string {
  return silence < LONG_SILENCE ? state : `${state}, silent for ${duration(silence)}`;
}

/** ms */
const LONG_SILENCE = 3_000;

/** What the supervisor has counted since it has started. */
export function describeTotals({ workers = [], totals }: Status): string[] {
  const serving = workers.filter(({ state }) => state === "ready").length;
  const memory = workers.reduce((sum, one) => sum + (one.memory ?? 0), 0);
  const restarts = workers.reduce((sum, one) => sum + one.restarts, 0);
  const lines = [
    `${serving} of ${count(workers.length, "worker")} accept${serving === 1 ? "s" : ""}, ${mebibytes(memory)}, ${count(restarts, "restart")}`,
  ];
  if (totals === undefined) return lines;
  const { upgrades, connections } = totals;
  const ups = `upgrades: ${upgrades.confirmed} confirmed, ${upgrades.rolledBack} rolled back, ${upgrades.failed} failed`;
  const ends = `connections of workers that have left: ${connections.moved} moved, ${connections.drained} ended, ${connections.destroyed} destroyed`;
  if (sumOf(upgrades) > 0) lines.push(ups);
  if (sumOf(connections) > 0) lines.push(ends);
  return lines;
}
