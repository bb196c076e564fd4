import { builtins } from "../platform/builtins.js";
import { readStat } from "../platform/proc.js";

/*
 * The controlling terminal of this process, by the fields of proc(5)'s stat. Without /proc there is none.
 */

const FIELD = { group: 2, session: 3, terminal: 4, foregroundGroup: 5, flags: 6 } as const;

/** `PF_EXITING` of the kernel. */
const EXITING = 0x4;

export function hasTerminal(fields = readFields()): boolean {
  const terminal = fields?.[FIELD.terminal];
  return terminal !== undefined && terminal !== 0;
}

/** Whether this process's group gets what is typed on the terminal, Ctrl-C included. */
export function isForeground(): boolean {
  const fields = readFields();
  return hasTerminal(fields) && fields?.[FIELD.group] === fields?.[FIELD.foregroundGroup];
}

/**
 * Whether the leader of the session is exiting. The kernel sends SIGHUP before it takes the terminal away, so in the turn of
 * the signal the process may have it still.
 */
export function isSessionEnding(): boolean {
  const leader = readFields()?.[FIELD.session];
  const flags = leader === undefined ? undefined : readFields(leader)?.[FIELD.flags];
  return flags !== undefined && (flags & EXITING) !== 0;
}

function readFields(pid: number | "self" = "self"): number[] | undefined {
  try {
    return readStat(pid).map(Number);
  } catch {
    return undefined;
  }
}

/** The shell shows its prompt again when the first process leaves, as if the service had ended. */
export function announceSuccessor(pid: number): void {
  if (!builtins.tty.isatty(2)) return;
  process.stderr.write(
    `handover: this process leaves, and the service goes on as pid ${pid}; to stop it: kill ${pid}\n`,
  );
}
