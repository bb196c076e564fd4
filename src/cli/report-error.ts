import { reasonOf } from "../errors.js";
import { Interrupted } from "./interrupt.js";
import { printable, Reported, WrongUsage, writeJson } from "./output.js";
import { stderr } from "./standard-stream.js";

const FAILED = 1;
export const WRONG_USAGE = 2;

/**
 * Prints what went wrong. Returns the exit code.
 *
 * @param words the command, for its help
 */
export function reportError(error: unknown, json: boolean, words: string): number {
  if (error instanceof Reported) return FAILED;
  const isUsage = error instanceof WrongUsage;
  const message = reasonOf(error);
  const { code } = error as { code?: unknown };
  if (json) writeJson({ answer: "failed", code: isUsage ? "ERR_OPTION" : code, message });
  for (const line of isUsage ? error.faults : [message]) {
    stderr.write(`handover: ${printable(line.replaceAll("\n", " "))}\n`);
  }
  if (isUsage) stderr.write(`Try: ${words} --help\n`);
  if (error instanceof Interrupted) return error.exitCode;
  return isUsage ? WRONG_USAGE : FAILED;
}
