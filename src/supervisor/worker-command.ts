import { basename, dirname, extname, resolve } from "node:path";
import { startProgram } from "../platform/child-process.js";
import { readManifest } from "../platform/installation.js";
import { successorCommand, type Command } from "../process/command.js";
import { launchInfo } from "../process/launch-info.js";
import { scriptOf } from "../process/node-words.js";
import { withPreload } from "../process/preload.js";
import type { SpawnedProcess } from "../process/spawn.js";
import type { SupervisorSettings } from "./settings.js";

/**
 * The command of the worker of an index.
 *
 * @throws {HandoverError} `ERR_OPTION` if the file of the environment cannot be read, `ERR_SPAWN`
 */
export function workerCommand({ command, readEnv }: SupervisorSettings, index: number): Command {
  const place = { HANDOVER_WORKER: String(index), NODE_APP_INSTANCE: String(index) };
  const planned = successorCommand(launchInfo, { ...command, env: { ...readEnv(), ...place } });
  // The supervisor reports to systemd.
  const { NOTIFY_SOCKET, WATCHDOG_USEC, ...env } = planned.env;
  return { ...planned, env };
}

/**
 * Starts a worker, whose descriptor 3 is `channel`.
 *
 * @param standard its stdin, stdout and stderr
 */
export async function startWorker(
  command: Command,
  channel: number,
  env: NodeJS.ProcessEnv,
  standard: readonly number[] = [0, 1, 2],
): Promise<SpawnedProcess> {
  const program = { ...command, env: mayPreload(command) ? withPreload(env) : env };
  const child = await startProgram(program, [...standard, channel]);
  return Object.assign(child, { detach: async () => {} });
}

/**
 * Whether the preload that reports uncaught errors can be given to a program without changing how Node loads it: only an ES
 * module is loaded as before. A program that only starts Node would pass the preload on to other programs.
 */
function mayPreload({ argv0, args, cwd }: Command): boolean {
  const script = NODE.test(basename(argv0)) ? scriptOf(args) : undefined;
  if (script === undefined) return false;
  if (/^\.m[jt]s$/.test(extname(script))) return true;
  return /^\.[jt]s$/.test(extname(script)) && isInModulePackage(dirname(resolve(cwd, script)));
}

/** Whether the nearest package has the type "module", from a directory upwards. */
function isInModulePackage(directory: string): boolean {
  const manifest = readManifest(directory);
  if (manifest !== undefined) return manifest.type === "module";
  const parent = dirname(directory);
  return parent !== directory && isInModulePackage(parent);
}

const NODE = /^node(js)?$/;
