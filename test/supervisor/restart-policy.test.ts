import { describe, expect, test } from "vitest";
import { RestartPolicy } from "../../dist/supervisor/restart-policy.js";

const limits = { backoff: 100, restarts: 1_000, restartWindow: 60_000 };

describe("the delay of a restart", () => {
  test("a worker that never becomes ready is started again with delays that double up to 30 s", () => {
    const policy = new RestartPolicy(limits);
    const delays = Array.from({ length: 12 }, (_, turn) => policy.died(turn, undefined));
    expect(delays).toEqual([0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
  });

  test("without a backoff every restart is at once", () => {
    const policy = new RestartPolicy({ ...limits, backoff: 0 });
    expect([1, 2, 3, 4].map((now) => policy.died(now, undefined))).toEqual([0, 0, 0, 0]);
  });

  test.each([
    { up: 9_999, next: 400 },
    { up: 10_000, next: 0 },
  ])("after three deaths in a row, the restart of a worker that was up for $up ms waits $next ms", (one) => {
    const policy = new RestartPolicy(limits);
    for (const now of [1, 2, 3]) policy.died(now, undefined);
    expect(policy.died(1_000 + one.up, 1_000)).toBe(one.next);
    expect(policy.died(20_000, undefined)).toBe(one.next === 0 ? 100 : 800);
  });
});

describe("the limit of restarts", () => {
  test.each([
    { restarts: 0, deaths: [1], last: "failed" },
    { restarts: 1, deaths: [1], last: 0 },
    { restarts: 1, deaths: [1, 2], last: "failed" },
    { restarts: 2, deaths: [1, 2, 100], last: "failed" },
    { restarts: 2, deaths: [1, 2, 101], last: 0 },
    { restarts: 2, deaths: [1, 60, 101, 159], last: "failed" },
    { restarts: 2, deaths: [1, 60, 101, 160], last: 0 },
  ])("$restarts restarts in 100 s: the death at the end of $deaths gives $last", (one) => {
    const policy = new RestartPolicy({ backoff: 100, restarts: one.restarts, restartWindow: 100_000 });
    const deaths = one.deaths.map((second) => second * 1_000);
    expect(deaths.map((now) => policy.died(now, now - 10_000)).at(-1)).toBe(one.last);
  });

  test("a worker that dies in a row fails, however long it takes to", () => {
    const policy = new RestartPolicy({ backoff: 100, restarts: 2, restartWindow: 60_000 });
    const deaths = [60_000, 120_000, 180_000];
    expect(deaths.map((now) => policy.died(now, undefined))).toEqual([0, 100, "failed"]);
  });

  test("a worker that is up for long in between fails, too, if it dies too often", () => {
    const policy = new RestartPolicy({ backoff: 100, restarts: 2, restartWindow: 60_000 });
    const deaths = [15_000, 30_000, 45_000];
    expect(deaths.map((now) => policy.died(now, now - 14_000))).toEqual([0, 0, "failed"]);
  });

  test("a worker that is started afresh has its restarts again", () => {
    const policy = new RestartPolicy({ backoff: 100, restarts: 1, restartWindow: 60_000 });
    expect([1, 2].map((now) => policy.died(now, undefined))).toEqual([0, "failed"]);
    policy.forget();
    expect([3, 4].map((now) => policy.died(now, undefined))).toEqual([0, "failed"]);
  });
});
