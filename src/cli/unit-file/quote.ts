import { HandoverError } from "../../errors.js";

/** A word of a command that systemd is to take as it is: quoted if it has to be, and nothing in it expanded. */
export function quoteWord(word: string): string {
  return quote(word).replaceAll("$", "$$$$");
}

/** The program of a command: systemd expands nothing in its path, and so takes no escaped `$` either. */
export function quoteProgram(path: string): string {
  if (path.includes("$"))
    throw impossible("the program", path, "systemd takes no $ in the path of a program");
  return quote(path);
}

/** An item of a list, in which `$` means nothing: a directory, an assignment. */
export function quote(text: string): string {
  const escaped = text
    .replace(/[\\"]/g, "\\$&")
    .replace(/\p{Cc}/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`)
    .replaceAll("%", "%%");
  return /^[^\s\p{Cc}\\"';#]+$/u.test(text) ? escaped : `"${escaped}"`;
}

/** A value that goes to the end of its line, where quotes mean nothing. */
export function plainValue(what: string, value: string): string {
  if (/[\p{Cc}\\]|^\s|\s$/u.test(value)) {
    const why = "systemd takes no backslash, no control character and no blank at its ends there";
    throw impossible(what, value, why);
  }
  return value.replaceAll("%", "%%");
}

/**
 * Cuts a command into words, as a shell does that expands nothing.
 *
 * @throws {HandoverError} `ERR_OPTION` for a quote that does not end
 */
export function splitWords(command: string): string[] {
  const words: string[] = [];
  let isInWord = false;
  for (const [, blank, escaped, single, double, plain] of command.matchAll(PIECE)) {
    const piece = escaped ?? single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? plain;
    if (blank === undefined && piece === undefined) {
      throw new HandoverError("ERR_OPTION", `cannot read the command ${command}: a quote does not end`);
    }
    if (piece !== undefined) words.push((isInWord ? words.pop()! : "") + piece);
    isInWord = piece !== undefined;
  }
  return words;
}

/** Blanks, an escaped character, what stands in quotes, anything plain; or a quote that nothing ends. */
const PIECE = /(\s+)|\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*)"|([^\s'"\\]+)|./gsu;

function impossible(what: string, value: string, why: string): HandoverError {
  return new HandoverError("ERR_OPTION", `cannot write ${what} ${JSON.stringify(value)} into a unit: ${why}`);
}
