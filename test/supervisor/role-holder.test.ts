import { expect, test } from "vitest";
import { newRoleHolder, nextFence, roleHolder } from "../../dist/supervisor/role-holder.js";

test.each([
  { holder: undefined, ready: [], next: undefined },
  { holder: undefined, ready: [2, 1, 3], next: 1 },
  { holder: 2, ready: [0, 1, 2], next: 2 },
  { holder: 2, ready: [3, 1], next: 1 },
  { holder: 0, ready: [], next: undefined },
  { holder: 0, ready: [10, 9], next: 9 },
])("of the ready workers $ready the roles, held by $holder, go to $next", ({ holder, ready, next }) => {
  expect(roleHolder(holder, ready)).toBe(next);
});

test.each([
  { olds: [0, 1], news: [0, 1], holder: 1, batch: [0, 1], next: 1 },
  { olds: [0, 1], news: [0, 1], holder: 1, batch: [0], next: undefined },
  { olds: [0, 1], news: [0, 1], holder: 1, batch: [1], next: 1 },
  { olds: [0, 1], news: [0, 1], holder: undefined, batch: [1], next: 1 },
  { olds: [], news: [0, 1], holder: undefined, batch: [0, 1], next: 0 },
  { olds: [0, 1, 2, 3], news: [0, 1], holder: 3, batch: [0, 1], next: 0 },
  { olds: [0, 1, 2, 3], news: [0, 1], holder: 3, batch: [0], next: undefined },
  { olds: [0, 1, 2, 3], news: [0, 1], holder: 3, batch: [1], next: 1 },
  { olds: [0, 1], news: [0, 1, 2, 3], holder: 1, batch: [2, 3], next: undefined },
  { olds: [2], news: [2], holder: 2, batch: [2], next: 2 },
  { olds: [1], news: [1], holder: 0, batch: [1], next: undefined },
  { olds: [], news: [1], holder: 0, batch: [1], next: undefined },
  { olds: [0], news: [0, 1], holder: 1, batch: [0, 1], next: 1 },
])("$olds become $news: at the commit of $batch the roles of $holder go to $next", (one) => {
  expect(newRoleHolder(one, one.holder, one.batch)).toBe(one.next);
});

test.each([
  { known: [], now: 5, fence: 5 * 1024 },
  { known: [7], now: 5, fence: 5 * 1024 },
  { known: [6_000, 9_000, 8_000], now: 5, fence: 9_000 },
])("after the fences $known a holder at $now ms goes on from $fence", ({ known, now, fence }) => {
  expect(nextFence(known, now)).toBe(fence);
});
