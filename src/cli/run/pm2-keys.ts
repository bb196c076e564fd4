/** How the keys of an app in PM2's ecosystem file are read. docs/pm2.md has a row for each. */
export const SUPPORTED: Readonly<Record<string, string>> = {
  name: "name",
  script: "program",
  args: "args",
  interpreter: "program",
  node_args: "nodeArgs",
  cwd: "cwd",
  instances: "workers",
  exec_mode: "workers",
  env: "env",
  port: "env",
  max_memory_restart: "maxMemory",
  max_restarts: "restarts",
  min_uptime: "restartWindow",
  autorestart: "restarts",
  restart_delay: "backoff",
  exp_backoff_restart_delay: "backoff",
  listen_timeout: "readyTimeout",
  pid_file: "pidFile",
  source_map_support: "nodeArgs",
};

/** Other spellings that PM2 takes. It takes each key in camel case, too. */
export const ALIASES: Readonly<Record<string, string>> = {
  cmd: "script",
  command: "script",
  exec: "script",
  exec_interpreter: "interpreter",
  interpreter_args: "node_args",
  pid: "pid_file",
  out: "out_file",
  output: "out_file",
  out_log: "out_file",
  error: "error_file",
  err: "error_file",
  err_file: "error_file",
  err_log: "error_file",
  log: "log_file",
  combine_logs: "merge_logs",
  cron: "cron_restart",
  user: "uid",
};

const OUTPUT =
  "workers print where handover run prints; keep it by systemd's journal, the container or a shell's >>";
const WATCH = "use node --watch while you develop";
const MONITOR = "use handover/metrics, or a library of your monitoring in the program";
const USER = "start handover run as that user, in systemd by User=";

/** The keys without a counterpart, and what to do instead. */
export const UNSUPPORTED: Readonly<Record<string, string>> = {
  append_env_to_name: "give each service its name",
  autostart: "the service starts when handover run does",
  automation: MONITOR,
  cron_restart: "let a systemd timer or cron run handover upgrade",
  deep_monitoring: MONITOR,
  disable_logs: OUTPUT,
  disable_trace: MONITOR,
  error_file: OUTPUT,
  event_loop_inspector: MONITOR,
  execute_command: "every program is started as a process of its own",
  filter_env: "start handover run without these variables, by env -u",
  force: "a second service on the same address is refused",
  ignore_watch: WATCH,
  increment_var: "compute it from NODE_APP_INSTANCE in the program",
  install_url: "install the program before it starts",
  instance_var: "the index is in NODE_APP_INSTANCE and HANDOVER_WORKER",
  io: MONITOR,
  kill_retry_time: "a worker that has to end at once is killed once",
  kill_timeout: "set drainTimeout of new Upgrader() in the program, and --stop-timeout for the service",
  log_date_format: "the journal and the container's log have the time of each line",
  log_file: OUTPUT,
  log_type: OUTPUT,
  merge_logs: OUTPUT,
  name_prefix: "give the service its whole name",
  namespace: "each service runs in a handover run of its own",
  out_file: OUTPUT,
  pmx: MONITOR,
  post_update: "run these commands before handover upgrade",
  shutdown_with_message: "a worker stops by its Upgrader: release resources after upg.exit",
  stop_exit_codes: "a worker that exits is started again; to stop the service call upg.stop()",
  time: "the journal and the container's log have the time of each line",
  trace: MONITOR,
  treekill: "end child processes in the program, after upg.exit",
  uid: USER,
  gid: USER,
  username: USER,
  v8: MONITOR,
  vizion: "handover does not look at git",
  wait_ready: "call upg.ready() where the program calls process.send('ready'): a worker has no process.send",
  watch: WATCH,
  watch_delay: WATCH,
  watch_options: WATCH,
  windowsHide: "handover run needs Linux",
  write: "handover writes no settings",
};

/** Values that ask for what handover does anyway, or for nothing. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  automation: [true],
  autostart: [true],
  disable_trace: [true],
  execute_command: [true],
  instance_var: ["NODE_APP_INSTANCE"],
  merge_logs: [true],
  namespace: ["default"],
  pmx: [true],
  treekill: [true],
  vizion: [true],
  windowsHide: [true],
};

/** The keys that matter only beside another one. */
const BESIDE: Readonly<Record<string, string>> = {
  ignore_watch: "watch",
  watch_delay: "watch",
  watch_options: "watch",
};

/** Whether a key without a counterpart asks for something that does not happen. */
export function asksForMore(key: string, app: Readonly<Record<string, unknown>>): boolean {
  const value = app[key];
  const other = BESIDE[key];
  if (other !== undefined && !app[other]) return false;
  if (NEUTRAL[key]?.includes(value) === true) return false;
  // `false` asks for something only where PM2 does it by default.
  return value === false ? ["autostart", "treekill"].includes(key) : Boolean(value);
}

/** A key by its first name: `maxMemoryRestart` and `max_memory_restart` are one. */
export function canonicalKey(key: string): string {
  if (key === "windowsHide") return key;
  const snake = key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return key.startsWith("env_") ? key : (ALIASES[snake] ?? snake);
}
