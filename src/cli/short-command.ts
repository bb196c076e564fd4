import { quoteForShell } from "../platform/shell.js";

/**
 * The command of a process for people, in one line and cut short: a program in an argument of `node -e`, or settings in JSON,
 * would make the table of services unreadable.
 */
export function shortCommand(words: readonly string[]): string {
  const command = words.map(quoteForShell).join(" ").replaceAll(/\s+/g, " ");
  return command.length > LONGEST ? `${command.slice(0, LONGEST - 1)}…` : command;
}

/** Characters. */
const LONGEST = 80;
