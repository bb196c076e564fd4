/** The result of {@link withTimeout} after the timeout. */
export const TIMED_OUT = Symbol("timed out");

/** Waits for `work` for at most `timeout` ms. Its later result, or error, is ignored. */
export async function withTimeout<T>(
  timeout: number,
  work: T | PromiseLike<T>,
): Promise<T | typeof TIMED_OUT> {
  if (!isThenable(work)) return work;
  const done = Promise.resolve(work);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<typeof TIMED_OUT>((resolve) => {
    // A whole number: see the drain of connections.
    timer = setTimeout(resolve, Math.max(0, Math.ceil(timeout)), TIMED_OUT);
  });
  done.catch(() => {});
  return Promise.race([done, late]).finally(() => clearTimeout(timer));
}

/** Whether `await` would wait for a value: a promise, another library's promise, or a query builder. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}
