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
export function readEnvironment(env: NodeJS.ProcessEnv, pid = process.pid): Environment {
  const usec = Number(env["WATCHDOG_USEC"]);
  const isMeant = env["WATCHDOG_PID"] === undefined || Number(env["WATCHDOG_PID"]) === pid;
  return {
    notifySocket: env["NOTIFY_SOCKET"],
    watchdog: isMeant && Number.isSafeInteger(usec) && usec > 0 ? usec / 1_000 : undefined,
  };
}
