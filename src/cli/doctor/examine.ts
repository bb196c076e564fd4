import { CHECKS } from "./checks/index.js";
import { gather } from "./facts.js";
import { runChecks } from "./findings.js";
import type { Target } from "./target.js";

/** What the doctor found. */
export interface Examination {
  /** The examined unit, process or machine, for people. */
  subject: string;
  findings: ReturnType<typeof runChecks>;
}

/** Examines a target. The command loads this module, and all checks with it, only when it runs. */
export async function examine(target: Target): Promise<Examination> {
  const facts = await gather(target);
  return { subject: facts.subject, findings: runChecks(CHECKS, facts) };
}
