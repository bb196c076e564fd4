import { stripVTControlCharacters, styleText } from "node:util";
import { stdout } from "./standard-stream.js";

/** Prints one line of JSON. A number with a fraction is a time in ms, and is rounded to 0.1 ms. */
export function writeJson(value: object): void {
  const json = JSON.stringify(value, roundTime);
  stdout.write(`${isPlain(json) ? json : json.replaceAll(/\p{Cc}/gu, escapeInJson)}\n`);
}

/** Prints a line for people, in place of the line that {@link repaint} left. */
export function writeText(text = ""): void {
  stdout.write(`${clear()}${printable(text)}\n`);
}

/** Prints several lines for people, at once. */
export function writeLines(lines: readonly string[]): void {
  stdout.write(`${clear()}${lines.map(printable).join("\n")}\n`);
}

/**
 * Strips control characters, except the styles of {@link paint}: what a process or a file says must not control the user's
 * terminal.
 */
export function printable(text: string): string {
  if (isPlain(text)) return text;
  return text.replaceAll(/\p{Cc}(?:\[(?:1|2|22|31|32|33|39)m)?/gu, (found) =>
    found.startsWith("\u001b[") ? found : found.slice(1),
  );
}

/** Whether there is nothing to look for in a text, by an expression which V8 compiles ten times as fast as one with classes of Unicode. */
function isPlain(text: string): boolean {
  return /^[ -~]*$/.test(text);
}

function roundTime(_: string, value: unknown): unknown {
  return typeof value === "number" ? Math.round(value * 10) / 10 : value;
}

/** JSON.stringify leaves DEL and the C1 controls as they are. */
function escapeInJson(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** Shows a line that the next one replaces; only on a terminal. */
export function repaint(line: string): void {
  const { terminal } = stdout;
  if (terminal === undefined) return;
  const text = printable(line);
  // A longer line would be wrapped, and only its last row be replaced.
  const width = (terminal.columns || 80) - 1;
  const plain = stripVTControlCharacters(text);
  stdout.write(clear() + (plain.length > width ? plain.slice(0, width) : text));
}

/** Clears the screen of a terminal; elsewhere one output follows the other. */
export function clearScreen(): void {
  if (stdout.terminal !== undefined) stdout.write("\u001b[H\u001b[2J");
}

/** Colors a text on a terminal, unless NO_COLOR is set. */
export function paint(style: "bold" | "dim" | "green" | "red" | "yellow", text: string): string {
  return stdout.terminal?.hasColors() && !process.env["NO_COLOR"] ? styleText(style, text) : text;
}

/** A duration in ms, for people. */
export function duration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const s = Math.round(ms / 1_000);
  if (s < 60) return `${s} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min ${s % 60} s`;
  const h = Math.floor(min / 60);
  return h < 24 ? `${h} h ${min % 60} min` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** A table for people: the lines of aligned columns. A column without any cell is left out. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const shown = header.flatMap((_, n) => (rows.some((cells) => cells[n] !== "") ? [n] : []));
  const widths = shown.map((n) => Math.max(...[header, ...rows].map((cells) => cells[n]!.length)));
  const lines = [header, ...rows].map((cells) =>
    shown
      .map((n, column) => cells[n]!.padEnd(widths[column]!))
      .join("  ")
      .trimEnd(),
  );
  return [paint("bold", lines[0]!), ...lines.slice(1)];
}

/** `1 connection`, `2,000 connections`. */
export function count(n: number, noun: string): string {
  return `${grouped(n)} ${noun}${n === 1 ? "" : "s"}`;
}

/** A whole number as `1,000`. The first call of `toLocaleString()` takes longer than Node to start. */
export function grouped(n: number): string {
  return String(n).replaceAll(/\B(?=(?:\d{3})+$)/g, ",");
}

/** The command has failed, and has printed why. */
export class Reported extends Error {}

/** Wrong usage, with all its faults: each is printed as a line. */
export class WrongUsage extends Error {
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(faults.join("; "));
    this.faults = faults;
  }
}

function clear(): string {
  return stdout.terminal !== undefined ? "\r\u001b[2K" : "";
}
