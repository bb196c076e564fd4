import { expect, test } from "vitest";
import type { RunContext, UnitKind } from "../../dist/state/units/unit-definition.js";
import { UnitRun } from "../../dist/state/units/unit-run.js";

function begin(): { run: UnitRun; context: RunContext } {
  let context!: RunContext;
  const definition = { run: (_id: string, _state: unknown, given: RunContext) => (context = given) };
  const run = new UnitRun({ definition } as unknown as UnitKind, "x", {}, 7);
  return { run, context };
}

test("the signal of a unit that the program keeps aborts when the unit ends", () => {
  const { run, context } = begin();
  const { signal } = context;
  expect(signal.aborted).toBe(false);
  run.abort();
  expect([run.hasAborted, signal.aborted]).toEqual([true, true]);
});

test("a signal that the program asks for after the unit has ended is aborted", () => {
  const { run, context } = begin();
  run.abort();
  expect(context.signal.aborted).toBe(true);
  expect(context.signal).toBe(context.signal);
});
