import { LISTENER_CHECKS } from "./checks/listeners.js";
import { PROCESS_CHECKS } from "./checks/process.js";
import { ROOM_CHECKS } from "./checks/room.js";
import { START_CHECKS } from "./checks/start.js";
import { SURROUNDINGS_CHECKS } from "./checks/surroundings.js";
import { TIME_CHECKS } from "./checks/times.js";
import { UNIT_CHECKS } from "./checks/unit.js";
import type { Facts } from "./facts.js";
import type { Check, Finding } from "./finding.js";

/** Everything that is checked. */
const CHECKS: readonly Check[] = [
  ...UNIT_CHECKS,
  ...TIME_CHECKS,
  ...PROCESS_CHECKS,
  ...SURROUNDINGS_CHECKS,
  ...START_CHECKS,
  ...LISTENER_CHECKS,
  ...ROOM_CHECKS,
];

/** What all of them find, the worst first. */
export function examine(facts: Facts): ({ check: string } & Finding)[] {
  const found = CHECKS.flatMap((check) => {
    const findings = check.examine(facts) ?? [];
    return [findings].flat().map((finding) => ({ check: check.name, ...finding }));
  });
  return found.toSorted((a, b) => RANK[a.severity] - RANK[b.severity]);
}

const RANK: Record<Finding["severity"], number> = { error: 0, warning: 1, ok: 2 };
