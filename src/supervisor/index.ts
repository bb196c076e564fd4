/**
 * `handover/supervisor`: several workers under one process that keeps its PID.
 *
 * @module
 */
import { systemEnv, type Env } from "../process/env.js";
import { asyncAtCaller } from "../platform/at-caller.js";
import { builtins } from "../platform/builtins.js";
import { native } from "../platform/native.js";
import { PidFile } from "../process/pid-file.js";
import { takeActivation } from "../systemd/activation.js";
import { ControlServer } from "../control/server.js";
import { OrphanReaper } from "./orphans.js";
import { OwnBinding } from "./own-binding.js";
import { PrefixedOutput } from "./prefixed-output.js";
import { SelfUpgrade, type CheckAnswer } from "./self-upgrade.js";
import { readSupervisorOptions, type SupervisorOptions, type SupervisorSettings } from "./settings.js";
import { handleSignals } from "./signals.js";
import { goBack, keepDescriptors, readState, settleState } from "./state.js";
import { Supervisor } from "./supervisor.js";
import { SystemdReports } from "./systemd-reports.js";
import { VERSION } from "../util/version.js";
import { startWorker } from "./worker-command.js";

export type { SupervisorOptions } from "./settings.js";

/**
 * Runs a program in several processes, until it is stopped: this process is their supervisor, and should do nothing else.
 *
 * @returns the exit code for this process: 0 after a stop, 1 if every worker has failed
 * @throws {HandoverError} `ERR_OPTION`, `ERR_PID_FILE`, `ERR_LISTEN` (of the control socket)
 */
export function supervise(options: SupervisorOptions): Promise<number> {
  return asyncAtCaller({ supervise }, "supervise", () =>
    run(readSupervisorOptions(options, systemEnv.launch.logicalCwd)),
  );
}

/** {@link supervise} with settings that were read before. */
export async function run(settings: SupervisorSettings): Promise<number> {
  // It has no code for which optimizing compilers are worth the 4 MB that a first use of them takes.
  for (const flag of ["--no-opt", "--no-maglev"]) builtins.v8.setFlagsFromString(flag);
  try {
    return await start(settings);
  } catch (error) {
    goBack(error);
    throw error;
  }
}

async function start(settings: SupervisorSettings): Promise<number> {
  const inherited = readState();
  if (inherited?.isCheck === true) return answerCheck();
  // What workers leave behind comes to this process, and would otherwise never be reaped in a container.
  if (process.pid !== 1) native().becomeSubreaper();
  if (inherited !== undefined) keepDescriptors(inherited.state);
  const output = settings.prefix ? new PrefixedOutput() : undefined;
  const spawn: Env["spawn"] = async (...how) => output?.start(...how) ?? startWorker(...how);
  const env: Env = { ...systemEnv, spawn };
  const pidFile = settings.pidFile === undefined ? undefined : new PidFile(settings.pidFile, env.pid);
  const activation = takeActivation(process.env, process.pid, true);
  const { items, stored } =
    inherited === undefined ? activation : { items: inherited.state.service.listeners.activated, stored: [] };
  const supervisor = new Supervisor(settings, env, items);
  const control = new ControlServer(supervisor, supervisor.events);
  const binding = new OwnBinding(inherited?.state.control);
  const selfUpgrade = new SelfUpgrade(supervisor, binding, inherited);
  supervisor.replaceProgram = async () => selfUpgrade.prepare();
  pidFile?.prepare();
  try {
    if (settings.controlSocket !== false) await control.open(binding, settings.controlSocket);
  } catch (error) {
    pidFile?.discard();
    throw error;
  }
  if (inherited !== undefined) supervisor.restore(inherited.state.service);
  const reports = new SystemdReports(supervisor, env.launch, stored);
  // It knows the workers that go on by now; what else there is are orphans.
  const reaper = OrphanReaper.start();
  handleSignals(settings, supervisor);
  if (inherited === undefined) supervisor.start();
  else {
    settleState();
    supervisor.goOn();
  }
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

/** This program can read the state, and run the addon. */
function answerCheck(): number {
  const answer: CheckAnswer = { answer: "can go on", version: VERSION };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  return 0;
}

/** ms in which clients of the control socket have to read their answers. */
const ANSWER_TIMEOUT = 1_000;
