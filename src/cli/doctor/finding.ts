import type { Facts } from "./facts.js";

/** What a check has found. An error would make an upgrade fail, or end the service in one. */
export type Finding =
  | { severity: "ok"; what: string }
  | { severity: "warning" | "error"; what: string; why: string; fix: string };

export interface Check {
  name: string;
  /** Undefined: it does not apply. */
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
