/** How often the same state may fail to move. State over which three processes have died would end a fourth one, too. */
export const MAX_ATTEMPTS = 3;

/** Warns that state has failed {@link MAX_ATTEMPTS} times. */
export function warnStateFailed(subject: string, size: number, why: string): void {
  process.emitWarning(`${subject} (${size} bytes) is not offered again: ${MAX_ATTEMPTS} ${why}`, {
    code: "HANDOVER_STATE_FAILED",
  });
}
