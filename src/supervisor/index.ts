/**
 * `handover/supervisor`: several workers under one process that keeps its PID.
 *
 * @module
 */
import { systemEnv, type Env } from "../process/env.js";
import { native } from "../platform/native.js";
import { PidFile } from "../process/pid-file.js";
import { takeActivation } from "../systemd/activation.js";
import { ControlServer } from "../control/server.js";
import { OrphanReaper } from "./orphans.js";
import { OwnBinding } from "./own-binding.js";
import { PrefixedOutput } from "./prefixed-output.js";
import { readSupervisorOptions, type SupervisorOptions, type SupervisorSettings } from "./settings.js";
import { handleSignals } from "./signals.js";
import { Supervisor } from "./supervisor.js";
import { SystemdReports } from "./systemd-reports.js";
import { startWorker } from "./worker-command.js";

export type { SupervisorOptions } from "./settings.js";

/**
 * Runs a program in several processes, until it is stopped: this process is their supervisor, and should do nothing else.
 *
 * @returns the exit code for this process: 0 after a stop, 1 if every worker has failed
 * @throws {HandoverError} `ERR_OPTION`, `ERR_PID_FILE`, `ERR_LISTEN` (of the control socket)
 */
export async function supervise(options: SupervisorOptions): Promise<number> {
  return run(readSupervisorOptions(options, systemEnv.launch.logicalCwd));
}

/** {@link supervise} with settings that were read before. */
export async function run(settings: SupervisorSettings): Promise<number> {
  // What workers leave behind comes to this process, and would otherwise never be reaped in a container.
  if (process.pid !== 1) native().becomeSubreaper();
  const reaper = OrphanReaper.start();
  const output = settings.prefix ? new PrefixedOutput() : undefined;
  const spawn: Env["spawn"] = async (...how) => output?.start(...how) ?? startWorker(...how);
  const env: Env = { ...systemEnv, spawn };
  const pidFile = settings.pidFile === undefined ? undefined : new PidFile(settings.pidFile, env.pid);
  const { items, stored } = takeActivation(process.env, process.pid, true);
  const supervisor = new Supervisor(settings, env, items);
  const reports = new SystemdReports(supervisor, env.launch, stored);
  const control = new ControlServer(supervisor, supervisor.events);
  const binding = new OwnBinding();
  pidFile?.prepare();
  try {
    if (settings.controlSocket !== false) await control.open(binding, settings.controlSocket);
  } catch (error) {
    pidFile?.discard();
    throw error;
  }
  handleSignals(settings, supervisor);
  supervisor.start();
  await supervisor.ready;
  if (supervisor.state === "ready") pidFile?.publish();
  else pidFile?.discard();
  const code = await supervisor.ended;
  await control.close(ANSWER_TIMEOUT);
  binding.close();
  pidFile?.remove();
  await output?.end();
  reaper.stop();
  reports.close();
  return code;
}

/** ms in which clients of the control socket have to read their answers. */
const ANSWER_TIMEOUT = 1_000;
