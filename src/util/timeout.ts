/** What {@link withTimeout} gives when the time is over. */
export const TIMED_OUT = Symbol("late");

/** Waits for `work` for at most `timeout` ms. What it does later is not heard any more. */
export async function withTimeout<T>(
  timeout: number,
  work: T | PromiseLike<T>,
): Promise<T | typeof TIMED_OUT> {
  if (!isThenable(work)) return work;
  const done = Promise.resolve(work);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<typeof TIMED_OUT>((resolve) => {
    timer = setTimeout(resolve, Math.max(0, timeout), TIMED_OUT);
  });
  done.catch(() => {});
  return Promise.race([done, late]).finally(() => clearTimeout(timer));
}

/** Whether `await` would wait for it: a promise, or what a query builder or another library's promise is. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}
