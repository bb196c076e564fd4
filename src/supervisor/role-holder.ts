import type { CommitPlan } from "./commit-types.js";
import { partnerOf } from "./commit.js";

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
 * The new worker that acquires the roles at the commit of a batch: that of the holder's index, else the lowest of the batch.
 * The roles stay in the batch in which they were released: a worker of a later batch could acquire them only later.
 *
 * @param holder the old worker that held the roles last; undefined if no worker has held them. Once a new worker has
 *   acquired them there is no further one to choose.
 * @param batch the new workers that are told to accept
 * @returns undefined if the roles stay with the old worker
 */
export function newRoleHolder(
  plan: Pick<CommitPlan, "olds" | "news">,
  holder: number | undefined,
  batch: readonly number[],
): number | undefined {
  if (holder === undefined) return lowest(batch);
  // Not every index is replaced: a worker that only goes on serving keeps its roles.
  if (!plan.olds.includes(holder) && !plan.news.includes(holder)) return undefined;
  if (!batch.includes(partnerOf(plan, holder))) return undefined;
  return batch.includes(holder) ? holder : lowest(batch);
}

/**
 * The fence from which a new holder goes on: above the last of every earlier one, also of a worker that died without a word.
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
