import { describeParent, detectProcessManager, INITS } from "../../../process/parents.js";
import type { Facts } from "../facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";

/**
 * The ancestors of the process: one that waits for the first generation mistakes its exit for the end of the service.
 */
export const PROCESS_MANAGER_CHECKS: readonly Check[] = [
  { name: "pid-1", examine: examinePidOne },
  { name: "manager", examine: examineManager },
  { name: "terminal", examine: examineTerminal },
];

const STAYS = "start it by handover run, or under systemd";

function examinePidOne({ process, status }: Facts): Finding | undefined {
  if (process === undefined) return undefined;
  if (isSupervisor(status)) return ok("it keeps its PID, which may be 1");
  if (process.innerPid === 1) {
    const why =
      "an upgrade is refused with ERR_PID_1: when PID 1 exits, the kernel kills every process of the container";
    return error("it is PID 1 of its container", why, STAYS);
  }
  const init = isFirst(status) ? process.ancestors.find(({ name }) => INITS.has(name)) : undefined;
  if (init !== undefined) {
    const why =
      "it exits, and the container with it, when the process that it started exits: after the first upgrade";
    return error(`${init.name} (pid ${init.pid}) waits for it`, why, STAYS);
  }
  const top = process.ancestors.at(-1);
  if (isFirst(status) && top?.pid === 1 && SHELLS.has(top.name.split(" ", 1)[0]!)) {
    const why =
      "if it waits for this process only, it exits after the first upgrade, and the container with it";
    return warning(`PID 1 is ${top.name}`, why, STAYS);
  }
  return ok("it is not PID 1, and no init waits for it");
}

/** A supervisor is never replaced: what waits for it, waits for the service. */
function isSupervisor(status: Facts["status"]): boolean {
  return status?.workers !== undefined;
}

/** Only the first generation is a child of the program that started the service. */
function isFirst(status: Facts["status"]): boolean {
  return (status?.generation ?? 0) === 0;
}

/** By the first word of the name: npm's has its arguments. */
const SHELLS = new Set(["sh", "bash", "dash", "ash", "busybox", "node", "npm"]);

function examineManager({ process, status }: Facts): Finding | undefined {
  if (process === undefined) return undefined;
  const { env, ancestors, waitingParent } = process;
  if (isSupervisor(status)) return examineManagerOfSupervisor(env, ancestors);
  const manager = detectProcessManager(env, ancestors, isFirst(status));
  if (manager !== undefined) {
    const why =
      "it watches only the process that it started: after an upgrade it takes the service for dead and starts it again";
    return error(`it runs under ${manager}`, why, "start the program with node, under systemd for example");
  }
  if (waitingParent === undefined || !isFirst(status)) return ok("no process manager has started it");
  const why =
    "it takes the first upgrade for the end of the service: it ends too, or starts the program again";
  return warning(`${describeParent(waitingParent)} waits for it`, why, "start the program with node");
}

function examineManagerOfSupervisor(
  env: NodeJS.ProcessEnv,
  ancestors: NonNullable<Facts["process"]>["ancestors"],
): Finding {
  const manager = detectProcessManager(env, ancestors, false);
  if (manager === undefined) return ok("no process manager restarts it");
  const why =
    "a reload of its own, or a change of a file, makes it stop the supervisor and all workers: clients are refused meanwhile";
  return warning(`it runs under ${manager}`, why, "start handover run itself, under systemd for example");
}

function examineTerminal({ process, status }: Facts): Finding | undefined {
  if (process === undefined) return undefined;
  if (isSupervisor(status) && process.hasTerminal)
    return ok("it has a terminal, and ends when the terminal is closed");
  if (!process.hasTerminal) return ok("it has no terminal");
  if (!isFirst(status)) return ok("it has a terminal, and keeps running when the terminal is closed");
  const why =
    "after the first upgrade the shell takes the service for ended, and the new process runs in the background";
  return warning("it was started from a terminal", why, "use a service manager in production");
}
