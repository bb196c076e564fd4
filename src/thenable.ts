/** Whether `await` would wait for it: a promise, or what a query builder or another library's promise is. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}
