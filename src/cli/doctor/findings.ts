import type { Facts } from "./facts.js";

/** What a check reports. An error would make an upgrade fail, or would end the service during one. */
export type Finding =
  | { severity: "ok"; what: string }
  | { severity: "warning" | "error"; what: string; why: string; fix: string };

export interface Check {
  name: string;
  /** Returns undefined if the check does not apply. */
  examine: (facts: Facts) => Finding | readonly Finding[] | undefined;
}

export function ok(what: string): Finding {
  return { severity: "ok", what };
}

export function warning(what: string, why: string, fix: string): Finding {
  return { severity: "warning", what, why, fix };
}

export function error(what: string, why: string, fix: string): Finding {
  return { severity: "error", what, why, fix };
}

/** Runs the checks. Returns what they found, errors first. */
export function runChecks(checks: readonly Check[], facts: Facts): ({ check: string } & Finding)[] {
  const found = checks.flatMap((check) => {
    const findings = check.examine(facts) ?? [];
    return [findings].flat().map((finding) => ({ check: check.name, ...finding }));
  });
  return found.toSorted((a, b) => RANK[a.severity] - RANK[b.severity]);
}

const RANK: Record<Finding["severity"], number> = { error: 0, warning: 1, ok: 2 };
