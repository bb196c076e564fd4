import { readStat } from "../platform/proc.js";

/*
 * The controlling terminal of this process, by the fields of proc(5)'s stat. Without /proc there is none.
 */

const FIELD = { session: 3, terminal: 4, flags: 6 } as const;

/** `PF_EXITING` of the kernel. */
const EXITING = 0x4;

export function hasTerminal(): boolean {
  const terminal = readFields()?.[FIELD.terminal];
  return terminal !== undefined && terminal !== 0;
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
