/** Values on which the unit that `handover unit` prints and the advice of `handover doctor` agree. */
export const DIRECTIVES = {
  NotifyAccess: "main",
  KillMode: "mixed",
  OOMPolicy: "continue",
  /** With `always` systemd would start the service again after `handover stop`, which makes it exit with 0. */
  Restart: "on-failure",
  /** Each listener takes one. systemd drops listeners beyond the limit; a higher limit costs nothing. */
  FileDescriptorStoreMax: 64,
  /** The same for workers: each listener takes one for each of them. */
  storeMaxOfWorkers: 1_024,
} as const;
