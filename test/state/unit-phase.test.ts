import { describe, expect, test } from "vitest";
import { nextPhase, type UnitEvent, type UnitPhase } from "../../dist/state/units/unit-phase.js";

const events: UnitEvent[] = [
  "froze",
  "offered",
  "taken",
  "unanswered",
  "returned",
  "confirmed",
  "ended",
  "failed",
  "restarted",
];

/** Every event that changes a phase. The others leave it as it is. */
const table: Record<UnitPhase, Partial<Record<UnitEvent, UnitPhase>>> = {
  running: { froze: "frozen", ended: "ended", failed: "failed" },
  frozen: { offered: "offered", ended: "ended", failed: "failed", restarted: "running" },
  offered: { taken: "taken", unanswered: "taken", returned: "frozen", restarted: "running" },
  taken: { confirmed: "moved", returned: "frozen", restarted: "running" },
  moved: {},
  ended: { restarted: "running" },
  failed: { restarted: "running" },
};
const phases = Object.keys(table) as UnitPhase[];

describe.each(phases)("a unit that is %s", (phase) => {
  test.each(events)("reacts to %s as the table says", (event) => {
    expect(nextPhase(phase, event)).toBe(table[phase][event] ?? phase);
  });
});

/** All sequences of events that lead from `phase` to another phase and visit no phase twice. */
function paths(phase: UnitPhase, seen: readonly UnitPhase[] = []): UnitPhase[][] {
  const next = [...new Set(events.map((event) => nextPhase(phase, event)))];
  const onwards = next.filter((one) => one !== phase && !seen.includes(one));
  const here = [...seen, phase];
  return [here, ...onwards.flatMap((one) => paths(one, here))];
}

/** The ways by which a unit gets into a phase, from its start. */
function waysTo(phase: UnitPhase): Set<string> {
  const ways = paths("running").filter((path) => path.includes(phase));
  return new Set(ways.map((path) => path.slice(0, path.indexOf(phase) + 1).join(" ")));
}

test("a unit reaches the successor only frozen and offered, and leaves finally only at the end of probation", () => {
  expect(waysTo("taken")).toEqual(new Set(["running frozen offered taken"]));
  expect(waysTo("moved")).toEqual(new Set(["running frozen offered taken moved"]));
  for (const phase of phases) expect(waysTo(phase).size).toBeGreaterThan(0);
});

test("a unit whose answer is open is never stopped, and a rollback brings every unit back that has not moved", () => {
  for (const phase of ["offered", "taken", "moved"] as const)
    for (const event of ["ended", "failed"] as const) expect(nextPhase(phase, event)).toBe(phase);
  for (const phase of phases)
    expect(nextPhase(phase, "restarted")).toBe(phase === "moved" ? "moved" : "running");
});
