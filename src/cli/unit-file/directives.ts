/** Values on which the unit that `handover unit` prints and the advice of `handover doctor` agree. */
export const DIRECTIVES = {
  NotifyAccess: "main",
  KillMode: "mixed",
  OOMPolicy: "continue",
  /** With `always` systemd would start a service again that `handover stop` has stopped: it exits with 0. */
  Restart: "on-failure",
  /** One for each listener. systemd drops what is beyond it, and a place that is not used costs nothing. */
  FileDescriptorStoreMax: 64,
} as const;
