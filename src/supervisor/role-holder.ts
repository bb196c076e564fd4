/**
 * The worker that is to hold the roles. The holder keeps them while it is ready; another one would only move them without
 * need.
 *
 * @param holder the worker that holds them, or undefined
 * @param ready the indexes of the workers that serve
 * @returns undefined if none is ready
 */
export function roleHolder(holder: number | undefined, ready: readonly number[]): number | undefined {
  if (holder !== undefined && ready.includes(holder)) return holder;
  return lowest(ready);
}

/**
 * The new worker that acquires the roles at the commit: that of the holder's index, as the roles then stay where they are.
 *
 * @param holder the worker that held the roles last; undefined if no worker has held them
 * @param news the new workers that are told to accept
 * @returns undefined if the holder is not replaced: it keeps the roles
 */
export function newRoleHolder(holder: number | undefined, news: readonly number[]): number | undefined {
  if (holder === undefined) return lowest(news);
  return news.includes(holder) ? holder : undefined;
}

/**
 * The fence from which a new holder continues: above the last of every earlier one, also of a worker that died without a word.
 *
 * @param known the last fences that workers have reported
 * @param now ms since 1970
 */
export function nextFence(known: readonly number[], now: number): number {
  return Math.max(now * 1024, ...known);
}

function lowest(indexes: readonly number[]): number | undefined {
  return indexes.length === 0 ? undefined : Math.min(...indexes);
}
