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
  { news: [0, 1], holder: 1, next: 1 },
  { news: [0, 1], holder: undefined, next: 0 },
  { news: [2], holder: 2, next: 2 },
  { news: [1], holder: 0, next: undefined },
])("at the commit of the new workers $news the roles of $holder go to $next", ({ news, holder, next }) => {
  expect(newRoleHolder(holder, news)).toBe(next);
});

test.each([
  { known: [], now: 5, fence: 5 * 1024 },
  { known: [7], now: 5, fence: 5 * 1024 },
  { known: [6_000, 9_000, 8_000], now: 5, fence: 9_000 },
])("after the fences $known a holder at $now ms goes on from $fence", ({ known, now, fence }) => {
  expect(nextFence(known, now)).toBe(fence);
});
