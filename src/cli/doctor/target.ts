import { existsSync } from "node:fs";
import { ControlClient, type AnswerTo } from "../../control/client.js";
import { connectToPid, isAlive, workerOf } from "../../control/discover.js";
import type { Request, Status } from "../../control/protocol.js";
import { HandoverError, reasonOf } from "../../errors.js";
import type { EngineReport } from "../../exchange/hosts.js";
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
  /** How the process sees the engine of its hosts; undefined if it has none. */
  engine: EngineReport | undefined;
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
  if (named === undefined && beside === undefined) return { unit, pidFile, pid: named, ...NO_ANSWER };
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

/** ms in which a process looks at its engine: that takes long if the engine does not answer. */
const INSPECT_TIMEOUT = 20_000;

type Answered = Pick<Found, "status" | "silence" | "engine">;

const NO_ANSWER: Answered = { status: undefined, silence: undefined, engine: undefined };

/** A worker itself does not answer. */
async function askOrItsSupervisor(pid: number | undefined, socket: string | undefined): Promise<Answered> {
  const answer = await ask(pid, socket);
  const worker = answer.status === undefined && pid !== undefined ? workerOf(pid) : undefined;
  return worker === undefined ? answer : ask(worker.supervisor, undefined);
}

async function ask(pid: number | undefined, socket: string | undefined): Promise<Answered> {
  try {
    const { status } = await request(pid, socket, { command: "status" }, STATUS_TIMEOUT);
    return { status, silence: undefined, engine: await inspect(pid, socket, status) };
  } catch (error) {
    return { ...NO_ANSWER, silence: reasonOf(error) };
  }
}

async function inspect(
  pid: number | undefined,
  socket: string | undefined,
  { hosts, workers = [] }: Status,
): Promise<EngineReport | undefined> {
  const used = hosts ?? workers.find((one) => one.hosts !== undefined)?.hosts;
  if (used === undefined) return undefined;
  const silent = (why: string): EngineReport => ({ engine: used.engine, lease: 0, unreachable: why });
  try {
    const { report } = await request(pid, socket, { command: "inspect" }, INSPECT_TIMEOUT);
    return report ?? silent("no worker has answered");
  } catch (error) {
    return silent(reasonOf(error));
  }
}

async function request<R extends Request>(
  pid: number | undefined,
  socket: string | undefined,
  asked: R,
  timeout: number,
): Promise<AnswerTo<R>> {
  const client = await connect(pid, socket);
  let isLate = false;
  const late = setTimeout(() => {
    isLate = true;
    client.close();
  }, timeout);
  try {
    return await client.ask(asked);
  } catch (error) {
    if (!isLate) throw error;
    const message = `the process did not answer "${asked.command}" within ${timeout} ms`;
    throw new HandoverError("ERR_CONTROL", message);
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
