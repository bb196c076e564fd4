import type { Facts } from "../facts.js";
import { error, ok, warning, type Check, type Finding } from "../findings.js";

/** The process, and the files by which it is found. */
export const PROCESS_CHECKS: readonly Check[] = [
  { name: "process", examine: examineProcess },
  { name: "control", examine: examineControl },
  { name: "state", examine: examineState },
  { name: "pid-file", examine: examinePidFile },
  { name: "paths", examine: examinePaths },
  { name: "draining", examine: examineDraining },
  { name: "signals", examine: examineSignals },
];

function examineProcess({ hidden }: Facts): Finding | undefined {
  if (hidden === undefined) return undefined;
  const why = "its control socket, its listeners and its command were not examined";
  return warning(hidden, why, "run handover doctor as root, or as the user of the process");
}

function examineControl({ process, status, silence }: Facts): Finding | undefined {
  if (status !== undefined)
    return ok(`process ${status.pid} answers: handover ${status.version}, Node ${status.node}`);
  if (process === undefined) return undefined;
  if (process.innerPid !== process.pid) {
    const why = `it is in another PID namespace, as process ${process.innerPid}`;
    return error(`process ${process.pid} does not answer`, why, "run handover doctor inside its container");
  }
  return error(
    silence ?? `process ${process.pid} does not answer`,
    "handover upgrade cannot reach it, and its own report was not examined",
    "give new Upgrader() the option pidFile, and run this as the same user or root",
  );
}

function examineState({ status }: Facts): Finding | undefined {
  switch (status?.state) {
    case undefined:
      return undefined;
    case "ready":
      return ok("it serves");
    case "upgrading":
      return warning("an upgrade is in progress", "only one upgrade runs at a time", "wait until it is over");
    case "starting":
      return error(
        "it is not ready yet",
        "an upgrade is refused before ready()",
        "wait, or find out what delays ready()",
      );
    default:
      return error(
        `it is ${status?.state}`,
        "it has been replaced, or is stopping",
        "examine the serving process: name it by its PID file or its unit",
      );
  }
}

function examinePidFile({ pidFile, process, status }: Facts): Finding | undefined {
  if (pidFile === undefined) return undefined;
  const { file, pid, problem } = pidFile;
  const why = "handover upgrade, systemd and scripts find the serving process by this file";
  if (problem !== undefined) return error(problem, why, "start the service with this file as its pidFile");
  if (!pidFile.isAlive) {
    return error(
      `${file} names process ${pid}, which has exited`,
      why,
      "start the service, which writes the file again",
    );
  }
  if (process !== undefined && process.pid !== pid && process.innerPid !== pid) {
    return error(
      `${file} names process ${pid}, and process ${process.pid} serves`,
      why,
      "give every service a pidFile of its own, which nothing else writes",
    );
  }
  return status === undefined ? undefined : ok(`${file} names process ${pid}`);
}

function examinePaths({ paths }: Facts): readonly Finding[] {
  return paths.map(({ option, file, problem, exposure }) => {
    if (problem !== undefined) {
      return error(
        `${option} ${file} cannot be replaced: ${problem}`,
        "ready() of the next generation fails",
        "make the user of the process the owner of the directory; under systemd use RuntimeDirectory=",
      );
    }
    if (exposure === undefined) return ok(`${option} ${file} can be written`);
    return warning(
      `${option} ${file} can be created by every user: ${exposure}`,
      "a file of another user there keeps the service from starting, or makes the commands reach another process",
      "use a directory of its own; under systemd RuntimeDirectory=",
    );
  });
}

function examineDraining({ status, settings }: Facts): Finding | undefined {
  if (status === undefined) return undefined;
  if (status.workers !== undefined) {
    const { length } = status.predecessors;
    return ok(`${length} replaced worker${length === 1 ? " drains" : "s drain"}`);
  }
  const [now, most] = [status.predecessors.length, settings.maxDraining];
  const what = `${now} of ${most} predecessors drain`;
  if (now < most - 1 || now === 0) return ok(what);
  const fix = "shorten drainTimeout, upgrade less often, or let more connections move";
  return now < most
    ? warning(what, "the upgrade after the next one is refused", fix)
    : error(what, "an upgrade is refused with ERR_TOO_MANY_DRAINING until one of them has exited", fix);
}

function examineSignals({ status }: Facts): Finding | undefined {
  const signal = status?.settings?.signals?.upgrade;
  if (signal === undefined || status?.signalListeners === undefined) return undefined;
  if (status.signalListeners.length === 0) return ok(`${signal} upgrades it, and runs no other listener`);
  return warning(
    `${signal} runs other listeners of the program, too: ${status.signalListeners.join(", ")}`,
    "a listener that closes servers or exits at this signal cuts requests off when the signal upgrades",
    `take ${signal} from the listener, give the option signals another signal, or use handover upgrade`,
  );
}
