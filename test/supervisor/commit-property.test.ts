import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { CommitPlan } from "../../dist/supervisor/commit-types.js";
import { SimulatedUpgrade, type BadLuck } from "../support/simulated-upgrade.js";

const indexes = [0, 1, 2, 3, 4, 5];

/** Any workers, of which some have died before. */
const plans: fc.Arbitrary<CommitPlan> = fc.subarray(indexes, { minLength: 1 }).chain((news) =>
  fc.record({
    news: fc.constant(news),
    olds: fc.oneof(fc.constant(news), fc.subarray(news)),
    probation: fc.boolean(),
    staged: fc.boolean(),
  }),
);

const luck: fc.Arbitrary<BadLuck> = fc.record({
  seed: fc.noShrink(fc.nat()),
  faults: fc.nat({ max: 4 }),
  lost: fc.constantFrom(0, 0, 1, 5, 20),
  hasty: fc.constantFrom(0, 0, 1, 5, 20),
  aborts: fc.boolean(),
});

test("an upgrade of workers that fail at random keeps its promises, and ends", () => {
  const upgrades = fc.property(plans, luck, (plan, bad) => {
    expect(["done", "orphaned", "failed", "rolledBack"]).toContain(
      new SimulatedUpgrade(plan, bad).run().end.type,
    );
  });
  fc.assert(upgrades, { numRuns: 5_000 });
});

test("upgrades of workers that fail at random end in every way", () => {
  const ends = new Set<string>();
  for (const [plan, bad] of fc.sample(fc.tuple(plans, luck), { seed: 1, numRuns: 3_000 })) {
    const { end } = new SimulatedUpgrade(plan, bad).run();
    ends.add("failure" in end ? `${end.type} ${end.failure.code}` : end.type);
    if (!("failure" in end)) continue;
    if (end.dead.length > 0) ends.add("with a dead worker");
    if (end.silent.length > 0) ends.add("with a silent worker");
    if (end.unkillable.length > 0) ends.add("with an unkillable worker");
  }
  const before = ["ABORTED", "STOPPED", "CHILD_EXITED", "UPGRADE_TIMEOUT", "ROLE", "CEASE_TIMEOUT"];
  const after = ["CHILD_EXITED", "UNRESPONSIVE"];
  expect([...ends].toSorted()).toEqual(
    [
      "done",
      "orphaned",
      "with a dead worker",
      "with a silent worker",
      "with an unkillable worker",
      ...before.map((code) => `failed ERR_${code}`),
      ...after.map((code) => `rolledBack ERR_${code}`),
    ].toSorted(),
  );
});

test("an upgrade without bad luck is done", () => {
  const none = { faults: 0, lost: 0, hasty: 0, aborts: false };
  const upgrades = fc.property(plans, fc.nat(), (plan, seed) => {
    expect(new SimulatedUpgrade(plan, { ...none, seed }).run().end.type).toBe("done");
  });
  fc.assert(upgrades, { numRuns: 1_000 });
});
