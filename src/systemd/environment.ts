import type { OwnLaunch } from "../process/launch-info.js";

/** The variables by which systemd configures a service. */
export interface Environment {
  /** `NOTIFY_SOCKET`. */
  notifySocket: string | undefined;
  /** in ms: the interval within which the main process must feed the watchdog; undefined without a watchdog */
  watchdog: number | undefined;
}

/**
 * Reads the variables that a process was started with. `WATCHDOG_PID` names the first process of the service.
 * Successors are started without it, because they feed the watchdog, too.
 */
export function readEnvironment({ variable }: Pick<OwnLaunch, "variable">, pid = process.pid): Environment {
  const usec = Number(variable("WATCHDOG_USEC"));
  const meant = variable("WATCHDOG_PID");
  const isMeant = meant === undefined || Number(meant) === pid;
  return {
    notifySocket: variable("NOTIFY_SOCKET"),
    watchdog: isMeant && Number.isSafeInteger(usec) && usec > 0 ? usec / 1_000 : undefined,
  };
}
