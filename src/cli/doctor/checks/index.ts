import { LISTENER_CHECKS } from "./listeners.js";
import { PROCESS_CHECKS } from "./process.js";
import { CAPACITY_CHECKS } from "./capacity.js";
import { START_CHECKS } from "./start.js";
import { PROCESS_MANAGER_CHECKS } from "./process-manager.js";
import { TIMEOUT_CHECKS } from "./timeouts.js";
import { UNIT_CHECKS } from "./service-unit.js";
import type { Facts } from "../facts.js";
import type { Check, Finding } from "../finding.js";

/** Everything that is checked. */
const CHECKS: readonly Check[] = [
  ...UNIT_CHECKS,
  ...TIMEOUT_CHECKS,
  ...PROCESS_CHECKS,
  ...PROCESS_MANAGER_CHECKS,
  ...START_CHECKS,
  ...LISTENER_CHECKS,
  ...CAPACITY_CHECKS,
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
