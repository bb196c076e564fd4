import cluster from "node:cluster";
import { isMainThread } from "node:worker_threads";
import { HandoverError } from "../errors.js";
import { ancestorsOf } from "../platform/proc.js";

/** @throws {HandoverError} `ERR_NOT_SUPPORTED` where handover cannot work */
export function assertSupported(): void {
  const why =
    process.platform === "win32"
      ? "Windows cannot pass sockets to another process; handover/testing has a stand-in for development"
      : !isMainThread
        ? "a worker thread cannot be replaced on its own; create the Upgrader in the main thread"
        : cluster.isWorker
          ? "in a node:cluster worker the primary owns the sockets"
          : undefined;
  if (why !== undefined)
    throw new HandoverError("ERR_NOT_SUPPORTED", `new Upgrader() does not work here: ${why}`);
}

/** Warns under a process manager that kills, or starts again, a service whose first process has exited. */
export function warnAboutProcessManager(): void {
  const manager = detectProcessManager(process.env, nearestCommands());
  if (manager === undefined) return;
  process.emitWarning(
    `handover cannot work under ${manager}: it watches the process that it started itself, so after an upgrade it ` +
      "takes the service for dead, and starts or kills it again. Start the program with node.",
    { code: "HANDOVER_MANAGER" },
  );
}

/** The manager by name, from the environment and the command lines of the ancestors, nearest first. */
export function detectProcessManager(
  env: NodeJS.ProcessEnv,
  commands: readonly string[][],
): string | undefined {
  if (env["pm_id"] !== undefined && env["PM2_HOME"] !== undefined) return "PM2";
  if (env["WATCH_REPORT_DEPENDENCIES"] !== undefined) return "node --watch";
  return commands.some((words) => words.slice(0, 3).some((word) => NODEMON.test(word)))
    ? "nodemon"
    : undefined;
}

const NODEMON = /(^|\/)nodemon(\.js)?$/;

/** nodemon may have a shell between it and the program. */
function nearestCommands(): string[][] {
  const ancestors = ancestorsOf("self", 3).filter(({ pid }) => pid > 1);
  return ancestors.map(({ words }) => words);
}
