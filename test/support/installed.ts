import { execFileSync } from "node:child_process";

/** Whether a test has to be skipped for want of a program. In CI it is not, and fails instead. */
export function isMissing(program: string): boolean {
  if (process.env["CI"] !== undefined) return false;
  try {
    execFileSync("which", [program], { stdio: "ignore" });
    return false;
  } catch {
    return true;
  }
}
