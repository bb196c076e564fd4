import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { bootTime } from "./boot-time.js";

/**
 * The times of a lease, in sixths of it, from when the last renewal was sent that was answered:
 *
 * - 2: the next one is sent.
 * - 3: it has no answer. The connection may be half open, so it is sent again over a new one; whichever is answered counts.
 * - 4: the lease is over for this process.
 * - 6: the lease is over for the others.
 *
 * So a new connection and an answer have a sixth of the lease, 2.5 s of 15, and the answer to the first one still counts meanwhile.
 */
const SIXTHS = { renewal: 2, patience: 1, own: 4 } as const;

/** ms. With a long lease a process that stops would wait for long until it can say so. */
const LONGEST_PATIENCE = 2_500;

/** ms from a renewal to the next one. */
export const intervalOf = (lease: number): number => (lease * SIXTHS.renewal) / 6;

/** ms after a renewal for which this process may run what is held by the lease. */
export const ownLeaseOf = (lease: number): number => (lease * SIXTHS.own) / 6;

/**
 * Asks for a renewal, and once more if there is no answer for a sixth of the lease, or for 2.5 s. Resolves with the first answer, and when its
 * question was sent on the clock of {@link bootTime}; rejects if none of them is answered.
 *
 * @param reconnect lets what is asked from now on go over new connections
 */
export async function askTwice<T>(
  lease: number,
  ask: () => Promise<T>,
  reconnect: () => void,
): Promise<{ readonly sent: number; readonly answer: T }> {
  const askOnce = async (): Promise<{ sent: number; answer: T }> => {
    const sent = bootTime();
    return { sent, answer: await ask() };
  };
  const first = askOnce();
  const patience = Math.min(LONGEST_PATIENCE, (lease * SIXTHS.patience) / 6);
  if ((await withTimeout(patience, first)) !== TIMED_OUT) return first;
  // The answer to a process that was busy is there already, and is read in the next turn.
  if ((await withTimeout(0, first)) !== TIMED_OUT) return first;
  reconnect();
  return Promise.any([first, askOnce()]);
}
