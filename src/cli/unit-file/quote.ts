import { HandoverError } from "../../errors.js";

/** A word of a command in a unit: quoted if necessary, and protected from expansion by systemd. */
export function quoteWord(word: string): string {
  return quote(word).replaceAll("$", "$$$$");
}

/** The program of a command: systemd does not expand its path, so `$` cannot be escaped there. */
export function quoteProgram(path: string): string {
  if (path.includes("$"))
    throw impossible("the program", path, "systemd does not accept $ in the path of a program");
  return quote(path);
}

/** An item of a list in which `$` has no meaning: a directory, an assignment. */
export function quote(text: string): string {
  const escaped = text
    .replace(/[\\"]/g, "\\$&")
    .replace(/\p{Cc}/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`)
    .replaceAll("%", "%%");
  return /^[^\s\p{Cc}\\"';#]+$/u.test(text) ? escaped : `"${escaped}"`;
}

/** A value that extends to the end of its line, where quotes have no meaning. */
export function plainValue(what: string, value: string): string {
  if (/[\p{Cc}\\]|^\s|\s$/u.test(value)) {
    const why = "systemd does not accept a backslash, a control character or a blank at either end";
    throw impossible(what, value, why);
  }
  return value.replaceAll("%", "%%");
}

/**
 * Splits a command into words as a shell does, without any expansion.
 *
 * @throws {HandoverError} `ERR_OPTION` for a quote that is not closed
 */
export function splitWords(command: string): string[] {
  const words: string[] = [];
  let isInWord = false;
  for (const [, blank, escaped, single, double, plain] of command.matchAll(PIECE)) {
    const piece = escaped ?? single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? plain;
    if (blank === undefined && piece === undefined) {
      throw new HandoverError("ERR_OPTION", `cannot read the command ${command}: a quote is not closed`);
    }
    if (piece !== undefined) words.push((isInWord ? words.pop()! : "") + piece);
    isInWord = piece !== undefined;
  }
  return words;
}

/** Blanks, an escaped character, a quoted text, a plain text, or a quote that is not closed. */
const PIECE = /(\s+)|\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*)"|([^\s'"\\]+)|./gsu;

function impossible(what: string, value: string, why: string): HandoverError {
  return new HandoverError("ERR_OPTION", `cannot write ${what} ${JSON.stringify(value)} into a unit: ${why}`);
}
