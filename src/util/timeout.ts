import { isThenable } from "../thenable.js";

/** What {@link within} gives when the time is over. */
export const LATE = Symbol("late");

/** Waits for `work` for at most `timeout` ms. What it does later is not heard any more. */
export async function within<T>(timeout: number, work: T | PromiseLike<T>): Promise<T | typeof LATE> {
  if (!isThenable(work)) return work;
  const done = Promise.resolve(work);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<typeof LATE>((resolve) => {
    timer = setTimeout(resolve, Math.max(0, timeout), LATE);
  });
  done.catch(() => {});
  return Promise.race([done, late]).finally(() => clearTimeout(timer));
}
