/** What systemd has told a service in its environment. */
export interface Environment {
  /** `NOTIFY_SOCKET`. */
  notifySocket: string | undefined;
  /** ms within which the main process has to feed the watchdog; undefined without one. */
  watchdog: number | undefined;
}

/**
 * Reads what a process was started with. `WATCHDOG_PID` names the first process of the service; its successors
 * are started without it, as they are meant, too.
 */
export function readEnvironment(env: NodeJS.ProcessEnv, pid = process.pid): Environment {
  const usec = Number(env["WATCHDOG_USEC"]);
  const isMeant = env["WATCHDOG_PID"] === undefined || Number(env["WATCHDOG_PID"]) === pid;
  return {
    notifySocket: env["NOTIFY_SOCKET"],
    watchdog: isMeant && Number.isSafeInteger(usec) && usec > 0 ? usec / 1_000 : undefined,
  };
}
