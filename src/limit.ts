/** What {@link within} gives when the time is over. */
export const LATE = Symbol("late");

/** Waits for `work` for at most `timeout` ms. What it does later is not heard any more. */
export async function within<T>(timeout: number, work: T | Promise<T>): Promise<T | typeof LATE> {
  if (!(work instanceof Promise)) return work;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<typeof LATE>((resolve) => {
    timer = setTimeout(resolve, Math.max(0, timeout), LATE);
  });
  work.catch(() => {});
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
