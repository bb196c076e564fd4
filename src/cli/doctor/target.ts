import { existsSync } from "node:fs";
import { ControlClient } from "../../control/client.js";
import { connectToPid, isAlive, workerOf } from "../../control/discover.js";
import type { Status } from "../../control/protocol.js";
import { HandoverError, reasonOf } from "../../errors.js";
import { listensAt } from "./listener-facts.js";
import { readPidFile, type PidFileFacts } from "./paths.js";
import { showUnit, type UnitFacts } from "./systemctl.js";

/** What to examine; without a value this machine and the project in the working directory. */
export interface Target {
  unit?: string | undefined;
  pid?: number | undefined;
  pidFile?: string | undefined;
}

/** The unit and the process that a target names. */
interface Found {
  unit: UnitFacts | undefined;
  pidFile: PidFileFacts | undefined;
  /** The serving process. */
  pid: number | undefined;
  status: Status | undefined;
  /** Why there is no status. */
  silence: string | undefined;
}

/**
 * Finds the process that a target names. If a PID file names a process that was replaced, that is its successor.
 *
 * @throws {HandoverError} `ERR_CONTROL`
 */
export async function findTarget({ unit: name, pid, pidFile: path }: Target): Promise<Found> {
  const unit = name === undefined ? undefined : await showUnit(name);
  const pidFile = path === undefined ? undefined : readPidFile(path);
  const main = Number(unit?.properties.get("MainPID") ?? 0);
  const named = pid ?? (pidFile?.isAlive === true ? pidFile.pid : undefined) ?? (main > 0 ? main : undefined);
  if (pid !== undefined && !isAlive(pid))
    throw new HandoverError("ERR_CONTROL", `there is no process ${pid}`);
  const beside = path === undefined || !existsSync(`${path}.sock`) ? undefined : `${path}.sock`;
  if (named === undefined && beside === undefined)
    return { unit, pidFile, pid: named, status: undefined, silence: undefined };
  const answer = await askOrItsSupervisor(named, beside);
  if (beside !== undefined && answer.status !== undefined) requireSameNamespace(answer.status.pid, beside);
  return { unit, pidFile, pid: answer.status?.pid ?? named, ...answer };
}

/** The PID of a process in another PID namespace belongs to a different process here. */
function requireSameNamespace(pid: number, socket: string): void {
  if (process.platform !== "linux" || listensAt(pid, socket)) return;
  const why = isAlive(pid) ? "is a different process here" : "is not visible here";
  const message = `cannot examine the process that answers at ${socket}: process ${pid} ${why}; if it runs in a container, run handover doctor inside it`;
  throw new HandoverError("ERR_CONTROL", message);
}

/** ms a process may take to report its status. */
const STATUS_TIMEOUT = 5_000;

/** A worker itself does not answer. */
async function askOrItsSupervisor(
  pid: number | undefined,
  socket: string | undefined,
): Promise<Pick<Found, "status" | "silence">> {
  const answer = await ask(pid, socket);
  const worker = answer.status === undefined && pid !== undefined ? workerOf(pid) : undefined;
  return worker === undefined ? answer : ask(worker.supervisor, undefined);
}

async function ask(
  pid: number | undefined,
  socket: string | undefined,
): Promise<Pick<Found, "status" | "silence">> {
  let late: NodeJS.Timeout | undefined;
  let isLate = false;
  try {
    const client = await connect(pid, socket);
    late = setTimeout(() => {
      isLate = true;
      client.close();
    }, STATUS_TIMEOUT);
    const { status } = await client.ask({ command: "status" });
    return { status, silence: undefined };
  } catch (error) {
    const silence = isLate
      ? `the process did not report its status within ${STATUS_TIMEOUT} ms`
      : reasonOf(error);
    return { status: undefined, silence };
  } finally {
    clearTimeout(late);
  }
}

async function connect(pid: number | undefined, socket: string | undefined): Promise<ControlClient> {
  if (socket === undefined) return connectToPid(pid!);
  try {
    const client = await ControlClient.connect(socket, STATUS_TIMEOUT);
    if (pid !== undefined) client.requireOwner(pid);
    return client;
  } catch (error) {
    if (pid === undefined) throw error;
    return connectToPid(pid);
  }
}
